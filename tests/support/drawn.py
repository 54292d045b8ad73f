"""Drawn scenes as files of any GIS."""

from pathlib import Path

from qwen2vl_rs.raster import write_geotiff
from qwen2vl_rs.synthetic.scene import Place, write_vectors


def write_scene(place: Place, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a scene as ``NAME.tif`` and ``NAME.geojson`` (WGS 84, OpenStreetMap's tags)."""
    image, vectors = folder / f"{name}.tif", folder / f"{name}.geojson"
    write_geotiff(image, place.draw(), place.crs, place.transform)
    write_vectors(place, vectors)
    return image, vectors
