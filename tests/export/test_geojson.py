"""Boxes of GeoTIFFs are where GDAL and pyproj say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from cvbatch.errors import UsageError
from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from cvbatch.results.committed import open_output
from cvbatch.results.predictions import read
from cvbatch.schema import GEO_CRS, GEO_TRANSFORM
from cvbatch.sources import open_source
from cvbatch.stages.decode import DecodeOptions, decode_encoded_rows, fetch_and_decode
from tests.edits.made_runs import made_run
from tests.export.runs import BOXES, box_columns, make_run
from tests.images.tiff.test_geotransform import HEIGHT, NORTH_UP, WIDTH, geotiff
from tests.samples import job, spec

DEGREES = Affine(0.001, 0, 13, 0, -0.002, 52)
BOX = (4.0, 5.0, 14.0, 25.0)


def boxes(uri: str, width: int, height: int) -> list[Any]:
    return [("car", 0.9, BOX), ("dog", 0.5, (0.0, 0.0, float(width), float(height)))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    geotiff(folder / "a.tif", DEGREES, "EPSG:4326")
    geotiff(folder / "b.tif", NORTH_UP, "EPSG:32633")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "c.jpg")
    geotiff(folder / "d.tif", Affine(0.001, 0, 13, 0, 0.002, 52), "EPSG:4326")
    return folder


def test_boxes_in_degrees(folder: Path, tmp_path: Path) -> None:
    output = made_run(str(folder), str(tmp_path / "out"), boxes, source={"geo": True})
    report = export_predictions(output, "geojson", str(tmp_path / "boxes.geojson"))
    assert report.notes == {"boxes whose place is not known": 2}
    content = json.loads((tmp_path / "boxes.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    features = {
        (feature["properties"]["image"], feature["properties"]["label"]): feature for feature in content["features"]
    }
    assert len(features) == len(content["features"]) == 6
    car = features["a.tif", "car"]
    west, south, east, north = 13.004, 51.95, 13.014, 51.99
    assert car["geometry"]["type"] == "Polygon"
    np.testing.assert_allclose(
        car["geometry"]["coordinates"], [[[west, south], [east, south], [east, north], [west, north], [west, south]]]
    )
    assert car["properties"] == {
        "row_id": 0, "image": "a.tif", "label": "car", "label_id": 1, "score": pytest.approx(0.9), "box": list(BOX),
    }  # fmt: skip
    transformer = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    corners = ((4, 25), (14, 25), (14, 5), (4, 5), (4, 25))
    expected = [transformer.transform(600_000 + column / 2, 5_700_000 - row / 4) for column, row in corners]
    np.testing.assert_allclose(features["b.tif", "car"]["geometry"]["coordinates"], [expected], atol=1e-8)
    for feature in content["features"]:
        assert signed_area(feature["geometry"]["coordinates"][0]) > 0, "rings go round counterclockwise"


def signed_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def test_the_columns_of_a_run(folder: Path, tmp_path: Path) -> None:
    output = made_run(str(folder), str(tmp_path / "out"), boxes, source={"geo": True})
    frame = read(output, columns=[GEO_TRANSFORM, GEO_CRS])
    assert frame[GEO_CRS].fillna("").tolist() == ["EPSG:4326", "EPSG:32633", "", "EPSG:4326"]
    assert list(frame[GEO_TRANSFORM][1]) == list(NORTH_UP)[:6]
    plain = made_run(str(folder), str(tmp_path / "plain"), boxes)
    assert GEO_CRS not in open_output(plain).schema.names


@pytest.mark.parametrize("budget", [1 << 28, 0])
def test_the_decode_stage_fills_the_columns(folder: Path, budget: int) -> None:
    (rows,) = open_source(job(folder).source).iter_chunks()
    options = DecodeOptions((spec().view,), 10**6, geo=True, max_unit_bytes=budget)
    table = fetch_and_decode(rows, options)
    if not budget:
        table = decode_encoded_rows(table, DecodeOptions((spec().view,), 10**6, geo=True))
    assert table[GEO_CRS].to_pylist() == ["EPSG:4326", "EPSG:32633", None, "EPSG:4326"]
    assert table[GEO_TRANSFORM].to_pylist()[0] == list(DEGREES)[:6]
    assert table[GEO_TRANSFORM].to_pylist()[2] is None


def test_a_run_without_places_is_refused(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[(1, 0.9, BOX)]])))
    with pytest.raises(UsageError, match=r"expected one with source\.geo: true"):
        export_predictions(output, "geojson", str(tmp_path / "boxes.geojson"))


def test_a_run_without_boxes(tmp_path: Path, folder: Path) -> None:
    output = made_run(str(folder), str(tmp_path / "out"), lambda *_: [], source={"geo": True})
    export_predictions(output, "geojson", str(tmp_path / "boxes.geojson"))
    assert json.loads((tmp_path / "boxes.geojson").read_text())["features"] == []


def test_the_extra_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = made_run(str(folder), str(tmp_path / "out"), boxes, source={"geo": True})
    monkeypatch.setitem(sys.modules, "pyproj", None)
    with pytest.raises(UsageError, match=r"coordinates of EPSG:32633 needs pyproj: pip install 'cvbatch\[geo\]'"):
        export_predictions(output, "geojson", str(tmp_path / "boxes.geojson"))


def test_a_code_that_is_not_known_leaves_its_boxes_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.tif"
    data = geotiff(path, NORTH_UP, "EPSG:32633")
    key = b"\x00\x0c\x00\x00\x01\x00"
    assert key + (32633).to_bytes(2, "little") in data
    path.write_bytes(data.replace(key + (32633).to_bytes(2, "little"), key + (1025).to_bytes(2, "little")))
    output = made_run(str(tmp_path / "in"), str(tmp_path / "out"), boxes, source={"geo": True})
    report = export_predictions(output, "geojson", str(tmp_path / "boxes.geojson"))
    assert report.notes == {"boxes whose place is not known": 2}


def test_boxes_in_csv_have_their_centres(folder: Path, tmp_path: Path) -> None:
    output = made_run(str(folder), str(tmp_path / "out"), boxes, source={"geo": True})
    export_predictions(output, "csv", str(tmp_path / "boxes.csv"), options=FormatOptions(rows="elements"))
    frame = pd.read_csv(tmp_path / "boxes.csv")
    cars = frame[frame["label"] == "car"].reset_index(drop=True)
    np.testing.assert_allclose(cars[["longitude", "latitude"]].iloc[0], [13.009, 51.97])
    transformer = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    expected = transformer.transform(600_000 + 9 / 2, 5_700_000 - 15 / 4)
    np.testing.assert_allclose(cars[["longitude", "latitude"]].iloc[1], expected, atol=1e-8)
    assert cars[["longitude", "latitude"]].iloc[2].isna().all()
    plain = made_run(str(folder), str(tmp_path / "plain"), boxes)
    export_predictions(plain, "csv", str(tmp_path / "plain.csv"), options=FormatOptions(rows="elements"))
    assert "longitude" not in pd.read_csv(tmp_path / "plain.csv").columns


def test_rasterio_reads_the_same_pixels(folder: Path) -> None:
    from cvbatch.images.windows import open_windows

    with rasterio.open(folder / "a.tif") as file:
        expected = file.read(window=((3, 20), (5, 30))).transpose(1, 2, 0)
    reader = open_windows((folder / "a.tif").read_bytes(), max_pixels=10**6)
    np.testing.assert_array_equal(reader.read(3, 5, 17, 25), expected)
