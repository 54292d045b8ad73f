"""Coordinate reference systems: named by a number only where they are the system of it."""

import numpy as np
import pytest
from rasterio.crs import CRS

from qwen2vl_rs.raster.crs import crs_name, crs_title, reproject, utm_zone

SHIFTED = "+proj=tmerc +lat_0=0 +lon_0=9 +k=1 +x_0=3500000 +y_0=0 +ellps=bessel"
SHIFTED += " +towgs84=100,200,300,0,0,0,0 +units=m +no_defs"


@pytest.mark.parametrize("code", [4326, 3857, 32631, 31467, 27700, 2154])
def test_systems_with_a_number_have_it_for_a_name(code):
    assert crs_name(CRS.from_epsg(code)) == f"EPSG:{code}"


@pytest.mark.parametrize(
    "proj4", [SHIFTED, "+proj=tmerc +lat_0=49 +lon_0=-2 +k=0.9996012717 +x_0=400000 +y_0=-100000 "
              "+ellps=airy +units=m +no_defs"],
)  # fmt: skip
def test_systems_that_only_resemble_one_keep_their_own_definition(proj4):
    """A shift of the datum that is lost moves a map by hundreds of metres."""
    system = CRS.from_proj4(proj4)
    assert system.to_epsg() is not None  # by rasterio's own, lower threshold
    name = crs_name(system)
    assert not name.startswith("EPSG:")
    place = np.array([[3.5e6, 5.5e6]])
    there = reproject(name, "EPSG:4326", place)
    np.testing.assert_allclose(there, reproject(system.to_wkt(), "EPSG:4326", place))


@pytest.mark.parametrize(
    ("longitude", "latitude", "zone"),
    [(-180, 0, 32601), (180, 1, 32660), (5.99, 50, 32631), (6, 50, 32632), (6, -0.1, 32732)],
)
def test_zones(longitude, latitude, zone):
    assert utm_zone(longitude, latitude) == f"EPSG:{zone}"


def test_titles():
    assert crs_title(CRS.from_epsg(32631)) == "WGS 84 / UTM zone 31N"
