"""Format a report of checks for the terminal."""

from __future__ import annotations

from ..scoring.tables import aligned
from ..system.console import counted
from ..system.terminal import printable_lines
from .check import Report
from .findings import Example
from .lengths import Range

_SIZES = 5  # image sizes listed
_RANK = {"error": 0, "warning": 1, "ok": 2}
_NONE = "–"


def render_report(report: Report) -> str:
    """Return the report as text: parts, findings, answers, images, tokens, text-only baseline."""
    blocks = [_parts(report), _findings(report)]
    if report.answers:
        blocks.append(_answers(report))
    blocks += [block for block in (_images(report), _tokens(report)) if block]
    blocks += [_text_only(report)] if report.text_only else []
    if report.not_checked:
        blocks.append([f"not checked: {what} ({why})" for what, why in report.not_checked.items()])
    return "\n\n".join(printable_lines(block) for block in blocks if block)


def _parts(report: Report) -> list[str]:
    if not report.parts:
        return []
    rows = [["", "questions", "images"]]
    rows += [[one.name, f"{one.questions:,}", f"{one.images:,}"] for one in report.parts]
    files = dict.fromkeys(one.file for one in report.parts if one.file)
    dataset = "" if report.dataset == "unknown" else f" ({report.dataset})"
    return [f"{', '.join(files)}{dataset}".strip() or "Questions", "", *aligned(rows)]


def _findings(report: Report) -> list[str]:
    lines = []
    width = max((len(one.check) for one in report.findings), default=0)
    for one in sorted(report.findings, key=lambda one: _RANK[one.verdict]):
        lines.append(f"{one.verdict:<7}  {one.check:<{width}}  {one.text}")
        indent = " " * (9 + width + 2)
        lines += [f"{indent}- {_example(example)}" for example in one.examples]
        if one.hint:
            lines.append(f"{indent}hint: {one.hint}")
    return lines


def _example(one: Example) -> str:
    place = f"{one.part} {one.id}".strip()
    if one.number is not None:
        place += f" (question {one.number:,} of {one.file})"
    shown = f"{place}, image {one.image}" if one.image else place
    return f"{shown}: {one.detail}" if one.detail else shown


def _answers(report: Report) -> list[str]:
    rows = [["type", "n", "answers", "most frequent", "share"]]
    rows += [
        [one.type, f"{one.n:,}", f"{one.distinct:,}", _short(one.majority), f"{one.share:.1%}"]
        for one in report.answers
    ]
    return aligned(rows)


def _short(text: str) -> str:
    flat = " ".join(text.split()) or _NONE
    return flat if len(flat) <= 40 else flat[:39] + "…"


def _images(report: Report) -> list[str]:
    found = report.images
    if found is None:
        return []
    sizes = [f"{w} × {h} ({n:,})" for (w, h), n in list(found.sizes.items())[:_SIZES]]
    more = len(found.sizes) - _SIZES
    sizes += [f"{counted(more, 'other size')}"] if more > 0 else []
    formats = ", ".join(f"{name} ({n:,})" for name, n in found.formats.items())
    lines = [f"images decoded: {found.decoded:,} of {found.count:,}"]
    if sizes:
        lines += [f"  formats: {formats}", f"  pixels: {', '.join(sizes)}"]
    for n, what in (
        (found.upscaled, "below view.min_pixels"),
        (found.downscaled, "above view.max_pixels"),
    ):
        if n:
            lines.append(f"  {counted(n, 'image')} {what}: resized to it")
    return lines


def _tokens(report: Report) -> list[str]:
    found = report.tokens
    if found is None:
        return []
    rows = [["tokens", "min", "median", "max"]]
    rows += [
        [name, f"{one.low:,}", f"{one.median:,.0f}", f"{one.high:,}"]
        for name, one in _ranges(report).items()
    ]
    return aligned(rows)


def _ranges(report: Report) -> dict[str, Range]:
    found = report.tokens
    if found is None:
        return {}
    named = {
        "image": found.image,
        "question": found.question,
        "answer and end": found.answer,
        "all of one question": found.sequence,
    }
    return {name: one for name, one in named.items() if one}


def _text_only(report: Report) -> list[str]:
    lines = []
    rows = [["without the image", "n", "OA", "95 %", "AA", "95 %"]]
    for one in report.text_only:
        if one.score is None:
            lines.append(f"{one.part}: no training question of its types is left")
            continue
        score = one.score
        oa, aa = (
            (f"{100 * value:.1f}", f"{100 * ci[0]:.1f} – {100 * ci[1]:.1f}")
            for value, ci in ((score["OA"], score["OA_ci"]), (score["AA"], score["AA_ci"]))
        )
        rows.append([one.part, f"{score['n']:,}", *oa, *aa])
        if one.dropped:
            lines.append(
                f"{counted(one.dropped, 'training question')} about images of {one.part} not used"
            )
        if one.unknown:
            lines.append(
                f"{counted(one.unknown, 'question')} of {one.part} of types without training "
                "questions not scored"
            )
    lines.append(
        "A table from the wording of a training question to its most frequent answer reaches this; "
        "only what a model gains over it comes from the images."
    )
    return [*(aligned(rows) if len(rows) > 1 else []), *lines]
