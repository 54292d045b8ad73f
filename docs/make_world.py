"""Write docs/world.md from docs/results/world.json; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("world.md")
RESULT = Path(__file__).with_name("results") / "world.json"

TEXT = """\
# Generating data sets

<!-- Written by `python docs/make_world.py` from docs/results/world.json. -->

`qwen2vl-rs generate` makes an RSVQA-style data set: images, questions and answers in the official
layout, split by region, with a page that summarises it. The images are either synthetic:

```console
$ qwen2vl-rs generate --synthetic 400 --balanced -o world
$ qwen2vl-rs data2csv --folder world --split train -o train.csv
```

or your own, with vectors from OpenStreetMap:

```console
$ qwen2vl-rs generate --image scene.tif --vectors region.osm.pbf --tile 256 -o utrecht
$ qwen2vl-rs generate --image scenes/ --like hr --tile 512 -o towns
```

![Twelve synthetic scenes](img/scenes.jpg)

## Scenes

A scene starts as a vector map: rivers and roads divide the ground into blocks, which are filled
with houses, industrial buildings, fields, woods, lakes and parks, in one of {settings} kinds of
places from wilderness to city. The map is clipped to the image, and **elements that are too small
to be seen are removed**: buildings under three pixels, land under four. Buildings keep a distance
of two pixels, and areas of one kind are either apart or one piece, so that all elements can be
counted. Then the map is rendered as an aerial image at 0.15 to 10 m per pixel: furrows along the
fields, tree crowns, roofs and shadows with one sun position and one season, haze, lens and sensor
noise. Trees, cars and ground markings are decoration and hide no elements.

Images are GeoTIFFs in UTM; `vectors/` contains each map as GeoJSON with OpenStreetMap tags. Reading
a map with its image gives the same elements (a test compares them). A seed gives the same bytes
with any number of processes; a scene of 256 pixels takes {cost} ms on one core. To train on the
scenes directly, use `qwen2vl_rs.synthetic.scene.make_scene` (the elements of a scene; its `draw()`
returns the pixels) and `cell_shares` in `recipes/embedded_base/scenes.py` (the share of every class
in each cell of a grid).

## Vectors

Any file that GDAL reads, in any coordinate reference system: GeoJSON, GeoPackage, Shapefile,
`.osm.pbf`. Tags are columns (`building`, `highway`, `landuse`, …), or are together in a column
`other_tags`, `all_tags` or `tags`, as HSTORE or JSON. Lengths and areas are true metres, measured
in the local UTM zone. Self-intersecting outlines are repaired and counted. Elements narrower than a
pixel and elements that are not visible from above (tunnels, underground, under a roof) are skipped
and counted, except with `--legacy`. Relations of `.osm` files with missing members or open rings,
which GDAL skips silently, are counted.

Life-cycle tags are used to keep what is visible. Elements that do not exist are skipped and
counted, except with `--legacy`: `building=construction` (or `proposed`, `planned`, `demolished`,
`razed`, `removed`, `destroyed`, `dismantled`), and elements with such a key next to their own tag
(`demolished=yes`, `construction=yes`). A building under construction may be a pit or a roof, so
there are no questions about it. Elements with `abandoned=yes`, `disused=yes` or in ruins are
visible, and count. With a life-cycle prefix (`razed:building=house`, `abandoned:highway=track`) an
element is always skipped and counted, as is a road with the value `construction` or `proposed`.

Tiles are split in blocks of up to 4 × 4. Where blocks of two splits meet, the adjacent tiles of the
larger split are skipped, so that neighbouring tiles do not leak.

## Three styles of questions

| | default | `--legacy` | `--balanced` |
|---|---|---|---|
| areas and distances | metres | units of Web Mercator | metres |
| square | a rectangle with equal sides | the same as circular | as default |
| size of a road | never asked | every road is small (LR) | never asked |
| next to | within 6 % of the image's side | within 1,000 units | as default |
| overlapping areas | count once | count twice | count once |
| rural or urban | urban where more than 55 % of the ground lies within 30 m of a building, rural below 40 %, no question in between | urban from 501 buildings | as default, half each |
| questions about absent land uses | as many as about present ones | only if there is no land use at all | as default |
| spelling | an orchard, cemeteries | a orchard, cemeterys, two spaces before the second thing | as default |
| answers | not balanced | not balanced | balanced for each question |

The thresholds of small, medium and large are those of RSVQA-HR (100 and 500 m²) below 3 m per
pixel, and those of RSVQA-LR (3,000 and 10,000 m²) above. `--like hr` asks about areas instead of
rural or urban, and counts are then scored exactly.

### `--legacy` compared with RSVQA

Shares over {images} maps of each kind, and shares measured on 62 published images. The maps are
synthetic, and as incomplete as OpenStreetMap. How often the answer is yes depends more on the place
than on the style: in the published images the standard deviation of one type's share between images
is four to five points.

{likeness}

### Question-only baseline

Accuracy of the question-only baseline (`scoring/baselines.py`), fitted on {train} scenes and tested
on
{test} others, official protocol, {scenes} scenes in total:

{blind}
"""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float | None) -> str:
    """Return a share as a percentage."""
    return "–" if share is None else f"{100 * share:.1f} %"


def page() -> str:
    """Return the page."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    published, legacy, blind = found["published"], found["legacy"], found["question_only"]
    sides = (published, legacy)
    names = list(dict.fromkeys([*published["lr"], *published["hr"]]))
    likeness = table(
        ["", "RSVQA-LR", "legacy", "RSVQA-HR", "legacy"],
        [
            [name, *(percent(side[like].get(name)) for like in ("lr", "hr") for side in sides)]
            for name in names
        ],
    )
    types = ["presence", "count", "comp", "rural_urban", "OA"]
    blind_table = table(
        ["", *blind], [[t, *(percent(blind[m].get(t)) for m in blind)] for t in types]
    )
    test = round(0.3 * found["scenes"])
    return TEXT.format(
        settings="nine",
        cost=found["core_ms_per_scene"],
        images=found["images"],
        scenes=found["scenes"],
        train=found["scenes"] - test,
        test=test,
        likeness=likeness,
        blind=blind_table,
    )


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/world.md is not up to date: python docs/make_world.py")


if __name__ == "__main__":
    main()
