"""Pictures are cut in the decode stage or while they are predicted; the answers are those for the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.images.tiles import Tiles
from cvbatch.inference import loading
from cvbatch.inference.predictor import Predictor
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import ENCODED
from cvbatch.sources.entries import entry_table
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.unit_predictor import split_unit
from tests.inference.squares import Squares, picture, spec, truth

TILES = Tiles(size=64, overlap=0.5)
SQUARES = (
    [(10, 12, 20, 0), (150, 60, 25, 0), (90, 90, 12, 1), (40, 50, 24, 2)],
    [(60, 60, 8, 1)],
    [],
)
SIZES = ((200, 120), (70, 90), (64, 64))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Squares:
    squares = Squares()
    monkeypatch.setattr(loading, "load_network", lambda *_, **__: squares)
    return squares


def rows_of(paths: Sequence[Path]) -> pa.Table:
    rows = entry_table([str(path).encode() for path in paths], [None] * len(paths), [7] * len(paths))
    return rows.add_column(0, "row_id", pa.array(range(len(paths))))


def saved(folder: Path, suffix: str = "png") -> list[Path]:
    paths = [folder / f"{index}.{suffix}" for index in range(len(SIZES))]
    for path, size, squares in zip(paths, SIZES, SQUARES, strict=True):
        picture(size, squares).save(path, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    return paths


def options_of(*specs: ModelSpec, **options: Any) -> DecodeOptions:
    return DecodeOptions(tuple(dict.fromkeys(each.view for each in specs)), **{"max_pixels": 10**6, **options})


def found_in(paths: Sequence[Path], *specs: ModelSpec, **options: Any) -> dict[int, dict[str, Any]]:
    """The rows of the predict stage by id, and how many stayed encoded."""
    decode = options_of(*specs, **options)
    unit = fetch_and_decode(rows_of(paths), decode)
    predictor, rows = Predictor(specs, batch_size=4, threads=1), dict[int, dict[str, Any]]()
    for batch in split_unit(unit, decode):
        outputs = predictor.predict_views(batch.views, batch.sizes)
        names = ["row_id", "width", "height", "error_type", "error_stage"]
        table = batch.table.select(names).to_pylist()
        columns = {name: column.to_pylist() for name, column in outputs.columns.items()}
        for index, row in enumerate(table):
            answers = {name: values[index] for name, values in columns.items()}
            rows[row["row_id"]] = {**row, **answers, "error": outputs.errors[index]}
    return dict(sorted(rows.items()))


def boxes_of(row: dict[str, Any], alias: str = "found") -> list[tuple[list[float], str]]:
    return sorted(zip(row[f"{alias}_boxes"], row[f"{alias}_labels"], strict=True))


@pytest.mark.parametrize("max_unit_bytes", [1 << 20, 100_000, 1], ids=["cut", "cut and read", "read"])
@pytest.mark.parametrize("merge", ["nms", "wbf"])
def test_boxes_are_those_of_the_pictures(tmp_path: Path, network: Squares, max_unit_bytes: int, merge: Any) -> None:
    rows = found_in(saved(tmp_path), spec(replace(TILES, merge=merge)), max_unit_bytes=max_unit_bytes)
    assert [boxes_of(row) for row in rows.values()] == [truth(squares) for squares in SQUARES]
    assert [(row["width"], row["height"]) for row in rows.values()] == list(SIZES)
    if max_unit_bytes > 1:
        assert max(network.batches) == 4  # tiles of several pictures share a batch


@pytest.mark.usefixtures("network")
def test_rows_that_are_too_large_for_a_unit_stay_encoded(tmp_path: Path) -> None:
    paths, tiled = saved(tmp_path), spec(TILES)
    for max_unit_bytes, encoded in ((1 << 20, 0), (100_000, 1), (1, 3)):
        unit = fetch_and_decode(rows_of(paths), options_of(tiled, max_unit_bytes=max_unit_bytes))
        assert len(unit) - unit[ENCODED].null_count == encoded


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("max_unit_bytes", [1 << 20, 1])
def test_models_with_and_without_tiles_share_a_picture(tmp_path: Path, max_unit_bytes: int) -> None:
    plain, tiled = spec(alias="plain"), spec(TILES)
    for row in found_in(saved(tmp_path)[:2], plain, tiled, max_unit_bytes=max_unit_bytes).values():
        assert len(boxes_of(row, "plain")) <= len(boxes_of(row))
    picture((60, 60), [(5, 6, 7, 1)]).save(tmp_path / "small.png")
    (small,) = found_in([tmp_path / "small.png"], plain, tiled).values()
    assert boxes_of(small, "plain") == boxes_of(small) == truth([(5, 6, 7, 1)])


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("max_unit_bytes", [1 << 20, 1])
def test_whole_picture_finds_objects_larger_than_tiles(tmp_path: Path, max_unit_bytes: int) -> None:
    squares = [(20, 10, 100, 0), (150, 60, 25, 2)]
    picture((200, 120), squares).save(tmp_path / "large.png")
    (row,) = found_in(
        [tmp_path / "large.png"], spec(replace(TILES, whole=True)), max_unit_bytes=max_unit_bytes
    ).values()
    assert boxes_of(row) == truth(squares)


@pytest.mark.usefixtures("network")
def test_damage_in_the_middle_is_an_error_of_its_row_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvbatch.images.row_bands.BAND_PIXELS", 1)
    paths = saved(tmp_path, "jpg")
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2] + whole[-2:])
    rows = found_in(paths, spec(TILES), max_unit_bytes=1)
    assert (rows[0]["error"].stage, rows[0]["error"].type) == ("decode", "CorruptImage")
    assert [rows[row]["error"] for row in (1, 2)] == [None, None]
    assert boxes_of(rows[2]) == []
    decoded = found_in(paths, spec(TILES))
    assert (decoded[0]["error_stage"], decoded[0]["error_type"]) == ("decode", "CorruptImage")


@pytest.mark.usefixtures("network")
def test_limit_of_pixels_gives_way_where_all_models_have_tiles(tmp_path: Path) -> None:
    (path, *_), limits = saved(tmp_path), {"max_pixels": 10_000, "max_tiled_pixels": 24_000}
    (row,) = found_in([path], spec(TILES), **limits).values()
    assert boxes_of(row) == truth(SQUARES[0])
    (row,) = found_in([path], spec(TILES), spec(alias="plain"), **limits).values()
    assert row["error_type"] == "TooManyPixels"
    (row,) = found_in([path], spec(TILES), max_pixels=10_000, max_tiled_pixels=23_999).values()
    assert row["error_type"] == "TooManyPixels"
    (row,) = found_in([path], spec(replace(TILES, whole=True)), **limits).values()
    assert (row["error_type"], row["error_stage"]) == ("TooManyPixels", "decode")


@pytest.mark.usefixtures("network")
def test_large_files_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, options = saved(tmp_path), options_of(spec(TILES), max_unit_bytes=100_000)
    expected = fetch_and_decode(rows_of(paths), options)
    monkeypatch.setattr("cvbatch.stages.decoded_rows._LARGE_FILE_BYTES", 1)
    unit = fetch_and_decode(rows_of(paths), options)
    assert unit[ENCODED].num_chunks == 3
    assert unit[ENCODED].to_pylist() == expected[ENCODED].to_pylist()
    assert unit.schema == expected.schema
