"""The headline of a report: one sentence and four key figures, based on confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..scoring.results import Gain
from .charts import Axis, Mark, strip
from .evidence import ReportInputs
from .i18n import Words
from .page_model import Tile

OFFICIAL = "official"

# Names of a difference by its `direction`, on a tile and in the headline.
_CHANGE = {"up": "better", "down": "worse", "level": "unclear"}
_GAIN = {"up": "above", "down": "below", "level": "level"}
_COST = {"up": "costs", "down": "helps", "level": "costless"}


def direction(ci: Sequence[float]) -> str:
    """Return ``up`` or ``down`` if an interval excludes zero, else ``level``."""
    return "up" if ci[0] > 0 else "down" if ci[1] < 0 else "level"


def sentence(found: ReportInputs, w: Words) -> tuple[str, str]:
    """Return the two parts of the headline, the claim and the conclusion."""
    score = found.after.results["protocols"][OFFICIAL]
    gain = found.after.results["visual_gain"].get(OFFICIAL)
    cost = found.after.results["shuffled_cost"].get(OFFICIAL)
    if found.comparison:
        change = found.comparison["protocols"][OFFICIAL]["OA"]
        moved = direction(change["ci"])
        claim = w(
            f"verdict.{_CHANGE[moved]}",
            what=w("verdict.tuning" if found.run else "verdict.change"),
            before=w.percent(change["before"]),
            after=w.percent(change["after"]),
            difference=w.points(change["difference"]),
            ci=w("form.ci", range=w.signed_range(change["ci"])),
        )
    else:
        moved = "up"  # without a comparison, the rest counts as if after a good result
        claim = w(
            "verdict.alone",
            after=w.percent(score["OA"]),
            ci=w("form.ci", range=w.range(score["OA_ci"])),
        )
    mood = moved
    if gain:
        beats = direction(gain["ci"])
        says = f"{_joint(mood, beats)}_{_GAIN[beats]}"
        claim += w(f"verdict.{says}", points=w.points(gain["OA"]))
        mood = beats
    if cost:
        misses = direction(cost["ci"])
        points = w.points(cost["OA"]) if misses == "level" else w.amount(abs(cost["OA"]))
        claim += w(f"verdict.{_joint(mood, misses)}_{_COST[misses]}", points=points)
    return claim + w("form.colon"), w(f"verdict.{_conclusion(gain, cost)}")


def _joint(before: str, after: str) -> str:
    """Join two statements: by "and" if both are good or both bad, else by "but"."""
    return "and" if (before == "up") == (after == "up") else "but"


def _conclusion(gain: Gain | None, cost: Gain | None) -> str:
    beats = direction(gain["ci"]) if gain else ""
    if cost is None:
        return {"": "unknown", "up": "knows"}.get(beats, "blind")
    misses = direction(cost["ci"])
    if misses != "up":
        return {"down": "misled"}.get(misses, "blind")
    return {"": "looks_only", "up": "uses"}.get(beats, "looks")


def tiles(found: ReportInputs, w: Words) -> list[Tile]:
    """Return the key figures: accuracy, change, gain over question-only, cost of shuffling."""
    results = found.after.results
    score = results["protocols"][OFFICIAL]
    marks = [Mark(score["OA"], "after", score["OA_ci"])]
    change = found.comparison["protocols"][OFFICIAL]["OA"] if found.comparison else None
    if change and found.before:
        value = f"{100 * change['before']:.1f} → {w.percent(change['after'])}"
        was = found.before.results["protocols"][OFFICIAL]["OA_ci"]
        ranges = f"{w.range(was)} → {w.range(score['OA_ci'])}"
        marks = [Mark(change["before"], "before"), *marks]
        shown = [
            Tile(w("tile.before_after"), value, ranges, chart=_accuracy(marks)),
            _difference("change", change["difference"], change["ci"], _CHANGE, w),
        ]
    else:
        value = w.percent(score["OA"])
        shown = [Tile(w("tile.oa"), value, w.range(score["OA_ci"]), chart=_accuracy(marks))]
    for name, one, says in (
        ("gain", results["visual_gain"].get(OFFICIAL), _GAIN),
        ("cost", results["shuffled_cost"].get(OFFICIAL), _COST),
    ):
        if one:
            part = w("form.part", n=one["n"], all=score["n"]) if one["n"] < score["n"] else ""
            shown.append(_difference(name, one["OA"], one["ci"], says, w, part))
        else:
            shown.append(Tile(w(f"tile.{name}"), "–", "", w("tile.absent")))
    return shown


_TONE = {"up": "good", "down": "bad", "level": "flat"}


def _accuracy(marks: Sequence[Mark]) -> Markup:
    return strip(marks, Axis(0.0, 1.0, [(0.0, ""), (1.0, "")], ""), [["before", "after"]])


def _difference(
    name: str, value: float, ci: Sequence[float], says: dict[str, str], w: Words, part: str = ""
) -> Tile:
    """Return the tile of a difference; ``part`` names the questions if not all."""
    where = direction(ci)
    reach = 1.15 * max(0.1, *map(abs, ci))
    axis = Axis(-reach, reach, [(0.0, "0")], "")
    return Tile(
        label=w(f"tile.{name}"),
        value=w.points(value),
        sub=w.signed_range(ci) + (w("form.semicolon") + part if part else ""),
        word=w(f"tile.{says[where]}"),
        tone=_TONE[where],
        chart=strip([Mark(value, "difference", ci)], axis, [["difference"]]),
    )
