"""Write docs/world.md from docs/results/world.json; ``--check`` only says whether it is so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("world.md")
RESULT = Path(__file__).with_name("results") / "world.json"

TEXT = """\
# Worlds that ask questions

<!-- Written by `python docs/make_world.py` from docs/results/world.json. -->

`qwen2vl-rs generate` makes an RSVQA: images, questions and true answers in the official layout,
split by region, with a page that shows what is in it. Either the images are drawn:

```console
$ qwen2vl-rs generate --synthetic 400 --balanced -o world
$ qwen2vl-rs data2csv --folder world --split train -o train.csv
```

or they are yours, with vectors from OpenStreetMap over them:

```console
$ qwen2vl-rs generate --image scene.tif --vectors region.osm.pbf --tile 256 -o utrecht
$ qwen2vl-rs generate --image scenes/ --like hr --tile 512 -o towns
```

![Twelve drawn scenes](img/scenes.jpg)

## Scenes

A scene begins as a map: rivers and roads cut the ground into blocks, and these are filled with
houses, halls, fields, woods, lakes, parks, in one of {settings} kinds of places from wilderness to
city. The map is clipped to the image, and **what would be too small to be seen is taken off it**:
buildings under three pixels, land under four. Buildings keep two pixels from each other, and land
of one kind lies apart or is one piece, so that everything that counts can be counted. Then the map
is drawn as seen from the air: furrows in the direction of their field, crowns, roofs and shadows
under one sun, one season, haze, lens and sensor noise, at 0.15 to 10 m per pixel. Trees, cars and
lines on the ground are decoration and hide nothing that counts.

Images are GeoTIFFs in UTM; `vectors/` holds each map as GeoJSON with OpenStreetMap's tags. Reading
it over its image gives the same elements again (a test compares them). A seed gives the same bytes
on any number of processes; a scene of 256 pixels takes {cost} ms of one core. For training by hand
there are `qwen2vl_rs.synthetic.scene.make_scene` (the elements of a scene; its `draw()` gives the pixels)
and `cell_shares` in `recipes/embedded_base/scenes.py` (for each cell of a grid, the share of every
class).

## Vectors

Any file that GDAL reads, in any reference system: GeoJSON, GeoPackage, Shapefile, `.osm.pbf`. Tags
are columns (`building`, `highway`, `landuse`, …) or stand together in a column `other_tags`,
`all_tags` or `tags`, as HSTORE or JSON. Lengths and areas are true metres, measured in the UTM zone
of the place, not Web Mercator's. Outlines that cross themselves are repaired and counted. Things
narrower than a pixel are left out and counted, but in `--legacy`; so is what cannot be seen from
above: tunnels, what lies below ground or under a roof. Relations of `.osm` files that lack members
or do not close, which GDAL passes over in silence, are counted.

Life-cycle tags decide by what there is to be seen. Left out and counted, but in `--legacy`, is what
is not there: `building=construction` (or `proposed`, `planned`, `demolished`, `razed`, `removed`,
`destroyed`, `dismantled`), and what carries such a key beside its own tag (`demolished=yes`,
`construction=yes`). A building under construction may be a pit or a roof, so it is not asked about.
What is `abandoned=yes`, `disused=yes` or in ruins still stands, and counts. Under a prefix
(`razed:building=house`, `abandoned:highway=track`) a thing is no longer what it was: it is none of
RSVQA's things in any manner, and is counted among those left out. A road whose value is
`construction` or `proposed` is likewise none.

Tiles are split in blocks of up to 4 × 4; where blocks of two splits meet, the tiles beside the
smaller split are left out, so that no neighbour leaks.

## Three manners of asking

| | default | `--legacy` | `--balanced` |
|---|---|---|---|
| areas and distances | metres | units of Web Mercator | metres |
| square | a rectangle with equal sides | the same as circular | as default |
| size of a road | never asked | every road is small (LR) | never asked |
| next to | within 6 % of the image's side | within 1,000 units | as default |
| areas that overlap | count once | count twice | count once |
| rural or urban | urban where more than 55 % of the ground lies within 30 m of a building, rural below 40 %, not asked between | urban from 501 buildings | as default, each half |
| land uses that are not there | asked about as often as those that are | asked about only where there is none at all | as often |
| spelling | an orchard, cemeteries | a orchard, cemeterys, two spaces before the second thing | as default |
| answers | as they come | as they come | of each question, equally often |

Small, medium and large are those of RSVQA-HR (100 and 500 m²) finer than 3 m per pixel, and of
RSVQA-LR (3,000 and 10,000 m²) beyond. `--like hr` asks for areas in place of rural and urban, and
counts are then scored exactly.

### Legacy, compared

Shares over {images} maps of each kind, beside those measured on 62 published images. The maps are
drawn ones made as incomplete as OpenStreetMap's. How often the answer is yes depends on the place
more than on the asking: in the published images the standard deviation of one type's share from
image to image is four to five points.

{likeness}

### What the words alone give away

A table from question to answer (`scoring/baselines.py`), filled on {train} scenes and asked about
{test} others, official protocol, {scenes} scenes in all:

{blind}
"""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float | None) -> str:
    """A share for people."""
    return "–" if share is None else f"{100 * share:.1f} %"


def page() -> str:
    """The whole page."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    published, legacy, blind = found["published"], found["legacy"], found["question_only"]
    names = list(dict.fromkeys([*published["lr"], *published["hr"]]))
    likeness = table(
        ["", "RSVQA-LR", "legacy", "RSVQA-HR", "legacy"],
        [
            [name, *(percent(side[like].get(name)) for like in ("lr", "hr")
                     for side in (published, legacy))]
            for name in names
        ],
    )  # fmt: skip
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
    """Write the page, or check it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/world.md is not up to date: python docs/make_world.py")


if __name__ == "__main__":
    main()
