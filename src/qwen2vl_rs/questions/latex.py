r"""Strip LaTeX from answers: ``\boxed{12\,\text{roads}}`` → ``12 roads``.

Only markup without meaning is removed: styles, spaces, math delimiters, braces. All other commands
stay; a number next to a backslash is not read, so that ``\frac{1}{2}`` and ``\approx 12`` are not
numbers.
"""

from __future__ import annotations

import re

#: Maximal depth of nested braces.
_DEPTH = 3
_INNER = r"[^{}]*"
for _ in range(_DEPTH):
    _INNER = rf"(?:[^{{}}]|\{{{_INNER}\}})*"

_BOXED = re.compile(rf"\\(?:boxed|fbox)\s*\{{({_INNER})\}}")

_ARGUMENT = r"\s*\{([^{}]*)\}"
_STYLES = (
    r"(?:text|math)(?:bf|rm|it|sf|tt|up|normal|bb)?|textnormal|operatorname\*?|mbox|hbox|bm"
    r"|boldsymbol|underline|emph|num|ensuremath|displaystyle|textstyle"
)
_STYLED = re.compile(rf"\\(?:{_STYLES}){_ARGUMENT}")
_COLOURED = re.compile(rf"\\(?:textcolor|colorbox|color)\s*\{{\w*\}}{_ARGUMENT}")
_QUANTITY = re.compile(rf"\\(?:SI|qty){_ARGUMENT}{_ARGUMENT}")
_TAKEN_BACK = re.compile(rf"\\(?:[bx]?cancel|sout|st|[hv]?phantom){_ARGUMENT}")
_SWITCHES = re.compile(
    r"\\(?:bf|rm|it|sf|tt|bfseries|displaystyle|textstyle|large|Large|LARGE|huge|Huge|left|right)"
    r"(?![A-Za-z])"
)
_SQUARE = re.compile(r"\\(?:square\s*\\met(?:er|re)|met(?:er|re)\s*\\squared)(?![A-Za-z])")
_POWER = re.compile(r"(?:\^|\\textsuperscript)\s*\{\s*(\w+)\s*\}")
_SPACES = re.compile(
    r"\\[,:;> ]|(?<=[\w}])~(?=[\w\\{])|\\(?:(?:thin|med|thick|en)?space|q?quad)(?![A-Za-z])"
)
_NEGATED = re.compile(r"\\(?:neg|lnot|not)(?![A-Za-z])")
_FORMULA = re.compile(r"\\[()\[\]]")
_DOLLARS = re.compile(r"(?<![\w$\\])(\${1,2})(?=[^\s$])([^$]*[^\s$\\])\1(?![\w$])")
_GROUP = re.compile(r"(?<![\\}])\{([^{}]*)\}")


def boxes(text: str) -> list[str]:
    r"""Return the content of each ``\boxed{…}`` in a text; of nested boxes, the innermost."""
    found = []
    for inside in _BOXED.findall(text):
        found += boxes(inside) or [inside]
    return found


def plain(text: str) -> str:
    """Remove the LaTeX markup that only affects the layout.

    Args:
        text: LaTeX, or text with LaTeX in it.
    """
    text = _DOLLARS.sub(r"\2", text)
    text = _FORMULA.sub(" ", text)
    text = text.replace("{,}", ",").replace("{.}", ".").replace("\\!", "")
    text = _NEGATED.sub(" not ", _SPACES.sub(" ", text))
    text = _SWITCHES.sub("", _SQUARE.sub("m^2", text))
    text = _POWER.sub(r"^\1", text)
    for _ in range(_DEPTH + 1):
        before = text
        text = _TAKEN_BACK.sub("", text)
        text = _QUANTITY.sub(r"\1 \2", _COLOURED.sub(r"\1", text))
        text = _POWER.sub(r"^\1", _STYLED.sub(r"\1", text))
        if text == before:
            break
    if not re.search(r"\\[A-Za-z]", text):  # no command is left that could own the braces
        for _ in range(_DEPTH):
            text = _GROUP.sub(r"\1", text)
    return _DOLLARS.sub(r"\2", text)
