"""GeoTIFFs lie where rasterio says, which reads them with GDAL."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from cvbatch.images.byte_ranges import HeldBytes
from cvbatch.images.decode import decode
from cvbatch.images.paged_files import PagedFile
from cvbatch.images.tiff.geotransform import GeoReference, read_geo_reference
from tests.images.tiff.test_pages import BIG, GREEN, RED, SMALL, plain
from tests.images.tiff.writing import Page, tiff

WIDTH, HEIGHT = 40, 30
NORTH_UP = Affine(0.5, 0, 600_000, 0, -0.25, 5_700_000)


def geotiff(path: Path, transform: Affine | None, crs: str | None, **tags: Any) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (3, HEIGHT, WIDTH), np.uint8)
    options = {"transform": transform} if transform is not None else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a file has no place on the earth
        with rasterio.open(
            path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=3, dtype="uint8", crs=crs, **options
        ) as file:
            file.write(pixels)
            file.update_tags(**tags)
    return path.read_bytes()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633", "EPSG:3857", "EPSG:4258", "EPSG:25832"])
@pytest.mark.parametrize("area", ["Area", "Point"])
def test_places_are_those_of_gdal(tmp_path: Path, crs: str, area: str) -> None:
    path = tmp_path / "a.tif"
    data = geotiff(path, NORTH_UP, crs, AREA_OR_POINT=area)
    with rasterio.open(path) as file:
        expected = GeoReference(tuple(file.transform)[:6], f"EPSG:{file.crs.to_epsg()}")
    found = read_geo_reference(data)
    assert found is not None
    assert found.crs == expected.crs == crs
    np.testing.assert_allclose(found.transform, expected.transform, rtol=0, atol=1e-6)
    assert decode(data, max_pixels=10**6).width == WIDTH


@pytest.mark.parametrize("transform", [Affine(0.5, 0.25, 10, -0.125, -0.5, 20), Affine(1, 0, 5, 0, 1, 7)])
def test_rotated_and_mirrored_places(tmp_path: Path, transform: Affine) -> None:
    found = read_geo_reference(geotiff(tmp_path / "a.tif", transform, "EPSG:4326"))
    assert found is not None
    np.testing.assert_allclose(found.transform, tuple(transform)[:6])


def test_a_system_without_a_code(tmp_path: Path) -> None:
    own = "+proj=tmerc +lat_0=1 +lon_0=2 +k=0.9 +x_0=3 +y_0=4 +ellps=GRS80 +units=m"
    found = read_geo_reference(geotiff(tmp_path / "a.tif", NORTH_UP, own))
    assert found is not None
    assert found.crs is None


def test_pictures_without_a_place(tmp_path: Path) -> None:
    assert read_geo_reference(geotiff(tmp_path / "a.tif", None, None)) is None
    assert read_geo_reference(tiff(plain(GREEN, BIG))) is None
    jpeg = io.BytesIO()
    Image.new("RGB", (9, 9)).save(jpeg, "JPEG")
    assert read_geo_reference(jpeg.getvalue()) is None
    assert read_geo_reference(b"") is None


def test_ground_control_points_are_no_transform(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, column, column * 2.0, row * 3.0) for row, column in ((0, 0), (0, 9), (9, 0))]
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8", gcps=points, crs="EPSG:4326"
    ) as file:
        file.write(np.zeros((1, 9, 9), np.uint8))
    assert read_geo_reference((tmp_path / "a.tif").read_bytes()) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_place_is_that_of_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    data = bytearray(geotiff(tmp_path / "a.tif", NORTH_UP, "EPSG:32633"))
    # the numbers of columns and rows, as a picture that is turned in the same way
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    tags = Image.Exif()
    tags[274] = orientation
    upright = []
    for numbers in (columns, rows):
        image = Image.fromarray(numbers.astype(np.uint8))
        image.info["exif"] = tags.tobytes()
        upright.append(np.asarray(ImageOps.exif_transpose(image)).astype(float) + 0.5)
    pixels = io.BytesIO(bytes(data))
    with Image.open(pixels) as image:
        kept = {tag: image.tag_v2[tag] for tag in (33550, 33922, 34735)}
        stream = io.BytesIO()
        image.save(stream, "TIFF", tiffinfo={**kept, 274: orientation})
    found = read_geo_reference(stream.getvalue())
    assert found is not None
    a, b, c, d, e, f = found.transform
    down, across = np.mgrid[: upright[0].shape[0], : upright[0].shape[1]] + 0.5
    np.testing.assert_allclose(a * across + b * down + c, NORTH_UP.a * upright[0] + NORTH_UP.c)
    np.testing.assert_allclose(d * across + e * down + f, NORTH_UP.e * upright[1] + NORTH_UP.f)


@pytest.mark.parametrize(
    "tags",
    [
        {33550: [0.0, 0.0, 0.0], 33922: [0.0] * 6},
        {33550: [float("nan"), 1.0, 0.0], 33922: [0.0] * 6},
        {33550: [1.0], 33922: [0.0] * 6},
        {34264: [1.0] * 3},
    ],
)
def test_tags_that_make_no_sense(tags: dict[int, list[float]]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9)).save(stream, "TIFF", tiffinfo={tag: tuple(values) for tag, values in tags.items()})
    assert read_geo_reference(stream.getvalue()) is None


def test_a_page_keeps_its_place(tmp_path: Path) -> None:
    geotiff(tmp_path / "a.tif", NORTH_UP, "EPSG:32633")
    stream = io.BytesIO()
    with Image.open(tmp_path / "a.tif") as image:
        kept = {tag: image.tag_v2[tag] for tag in (33550, 33922, 34735)}
        image.save(stream, "TIFF", tiffinfo=kept, save_all=True, append_images=[Image.new("RGB", (9, 9))])
    page = PagedFile(HeldBytes(stream.getvalue()))
    found = read_geo_reference(page.encode_page(1))
    assert found is not None
    assert found.transform == tuple(NORTH_UP)[:6]


def test_the_place_is_that_of_the_picture_and_not_of_its_copy() -> None:
    first = plain(RED, SMALL, 1)
    assert read_geo_reference(tiff(first, Page(plain(GREEN, BIG).tags, plain(GREEN, BIG).parts))) is None
