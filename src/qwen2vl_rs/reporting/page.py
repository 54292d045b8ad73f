"""Write ``report.html`` and ``report.md`` from the same sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..system.files import atomic_write
from ..system.toml import to_toml
from ..version import VERSION
from . import diagnostics, examples, provenance, scores
from .evidence import ReportInputs
from .i18n import Words
from .page_model import Page, Section
from .validation import validation
from .verdict import OFFICIAL, sentence, tiles

# Control, unassigned and direction-changing characters, which names and answers may contain.
_UNSEEN = dict.fromkeys(
    [
        *(c for c in range(0x20) if chr(c) not in "\t\n"),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),
    ],
    "\ufffd",
)
_DATA_FILES = ("conversations", "train", "test", "val")
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a report, and the names of images that could not be shown."""

    html: Path
    markdown: Path
    gone: tuple[str, ...] = ()


def write_report(found: ReportInputs, folder: Path, language: str = "en") -> Written:
    """Write ``report.html`` and ``report.md``.

    Args:
        found: the inputs.
        folder: the folder to write to.
        language: ``en`` or ``zh``.

    Raises:
        RunError: the folder is not writable.
    """
    w = Words(language, tuned=found.run is not None)
    pictures = examples.Pictures(found.image_rule, found.images)
    page = build(found, w, pictures)
    gone = tuple(pictures.gone.get(examples.NO_FILE, ()))
    written = Written(folder / "report.html", folder / "report.md", gone)
    for path, template in ((written.html, "report.html"), (written.markdown, "report.md")):
        text = render(template, page=page, w=w, version=VERSION)
        with atomic_write(path) as file:
            file.write(text.translate(_UNSEEN))
    return written


def build(found: ReportInputs, w: Words, pictures: examples.Pictures | None = None) -> Page:
    """Build the report in one language; ``pictures`` records what could not be shown."""
    pictures = pictures or examples.Pictures(found.image_rule, found.images)
    results = found.after.results
    claim, conclusion = sentence(found, w)
    sections = list(_sections(found, pictures, w))
    shown = {section.id for section in sections}
    if absent := provenance.missing(found, shown, pictures, w):
        sections.append(absent)
    sections.append(provenance.terms(found, w))
    by_image = results["clustered_by"] == "image"
    return Page(
        title=w("page.title" if found.comparison else "page.title_alone", name=found.name),
        eyebrow=w(
            "page.eyebrow" if by_image else "page.eyebrow_alone",
            protocol=OFFICIAL,
            dataset=w.known("dataset", results["dataset"]),
            n=results["n"],
            clusters=results["protocols"][OFFICIAL]["clusters"],
        ),
        claim=claim,
        conclusion=conclusion,
        tiles=tiles(found, w),
        sections=sections,
        remark=remark(found, w),
    )


def remark(found: ReportInputs, w: Words) -> str:
    """Return a remark for results of another checkpoint than commands use; else an empty text."""
    if found.planned is not None:
        last = found.checkpoint or found.used
        return w("page.unfinished", checkpoint=last, steps=found.planned)
    if found.checkpoint and found.used and found.checkpoint != found.used:
        kind = "older" if found.validation is None else "other"
        return w(f"page.{kind}", checkpoint=found.checkpoint, used=found.used)
    return ""


def _sections(found: ReportInputs, pictures: examples.Pictures, w: Words) -> Iterator[Section]:
    settings = to_toml(_shown(found)) if found.config else ""
    parts = (
        scores.by_type(found, w),
        examples.cases(found, pictures, w),
        examples.templates(found, w),
        scores.answers(found, w),
        diagnostics.counting(found, w),
        diagnostics.confidence(found, w),
        diagnostics.loss(found, w),
        validation(found, w),
        scores.by_protocol(found, w),
        provenance.what(found, settings, w),
    )
    yield from (part for part in parts if part is not None)


def _shown(found: ReportInputs) -> dict[str, Any]:
    """Return the settings, with file names only: folders are private."""
    assert found.config is not None
    tree = found.config.model_dump(exclude_none=True)
    private = (tree, ("model", "output")), (tree["data"], _DATA_FILES), (tree["lora"], ("adapter",))
    for part, keys in private:
        for key in keys:
            if key in part and PurePath(part[key]).is_absolute():
                part[key] = PurePath(part[key]).name
    return tree


def render(template: str, **values: object) -> str:
    """Fill a template; values are escaped in ``.html``, and by a filter in ``.md``."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["md"] = _markdown
    return made.get_template(template).render(values)


def _markdown(text: str) -> str:
    """Escape a text for Markdown, on one line."""
    flat = " ".join(text.split())
    plain = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!$])", r"\\\1", plain)
