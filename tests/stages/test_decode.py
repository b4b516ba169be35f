"""Fetching and decoding of one unit: rows stay, and pixels fit their budget."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from cvbatch.images.arrow_pixels import unpack_images
from cvbatch.images.preprocess import View, apply_view
from cvbatch.schema import ENCODED, EXIF_FIELDS, IMAGE_FIELDS, IMAGE_WARNING, TURN, pixels_column
from cvbatch.sources.entries import INTERNAL, entry_table
from cvbatch.stages.decode import DecodeOptions, decode_encoded_rows, fetch_and_decode
from tests.images.profiles import DISPLAY_P3, rgb_profile
from tests.sources import shards

WHOLE, SMALL = View(), View(resize=(4, 4))
OPTIONS = DecodeOptions(views=(WHOLE, SMALL), max_pixels=10_000)
HEIGHT, WIDTH = 10, 20


def photo(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def encoded(number: int) -> bytes:
    stream = io.BytesIO()
    photo(number).save(stream, "PNG")
    return stream.getvalue()


def unit(folder: Path, contents: list[bytes | None]) -> pa.Table:
    """Rows of the plan for files with these contents; None is a missing file."""
    paths = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.png"
        paths.append(os.fsencode(path))
        if content is not None:
            path.write_bytes(content)
    rows = entry_table(paths, [None] * len(paths), [7] * len(paths))
    rows = rows.add_column(0, "row_id", pa.array(range(100, 100 + len(paths))))
    return rows.append_column("mine", pa.array([f"m{number}" for number in range(len(paths))]))


def test_good_rows(tmp_path: Path) -> None:
    table = fetch_and_decode(unit(tmp_path, [encoded(0), encoded(1)]), OPTIONS)
    assert table["row_id"].to_pylist() == [100, 101]
    assert table["mine"].to_pylist() == ["m0", "m1"]
    assert table["status"].to_pylist() == ["ok", "ok"]
    assert table["image_bytes"].to_pylist() == [len(encoded(0)), len(encoded(1))]
    assert table["content_sha256"].to_pylist() == [hashlib.sha256(encoded(number)).hexdigest() for number in (0, 1)]
    assert (table["width"].to_pylist(), table["height"].to_pylist()) == ([WIDTH] * 2, [HEIGHT] * 2)
    assert table["format"].to_pylist() == ["png", "png"] or table["format"].to_pylist() == ["PNG", "PNG"]
    assert table[ENCODED].null_count == 2
    for index, view in enumerate(OPTIONS.views):
        for number, image in enumerate(unpack_images(table[pixels_column(index)])):
            assert image is not None
            np.testing.assert_array_equal(image, apply_view(view, photo(number)))


def test_types_are_those_of_the_schema(tmp_path: Path) -> None:
    options = DecodeOptions(views=(SMALL,), max_pixels=10_000, exif=True)
    for contents in ([encoded(0)], [b""], [None]):
        table = fetch_and_decode(unit(tmp_path, contents), options)
        for field in (*IMAGE_FIELDS, *EXIF_FIELDS):
            assert table.schema.field(field.name).type == field.type
        assert not set(INTERNAL) & set(table.column_names)


def test_an_error_affects_only_its_own_row(tmp_path: Path) -> None:
    contents = [encoded(0), b"", None, b"text", encoded(1)[:-40], encoded(2)]
    table = fetch_and_decode(unit(tmp_path, contents), OPTIONS)
    assert table["status"].to_pylist() == ["ok", "error", "error", "error", "error", "ok"]
    assert table["error_stage"].to_pylist() == [None, "decode", "fetch", "decode", "decode", None]
    assert all(table["error_message"].to_pylist()[1:5])
    assert table["image_bytes"].to_pylist() == [len(content) if content is not None else None for content in contents]
    assert table["content_sha256"].null_count == 1, "the hash is known of all that could be read"
    assert table[ENCODED].null_count == len(contents)
    assert [image is not None for image in unpack_images(table[pixels_column(0)])] == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("budget", [10**9, 1], ids=["all at once", "one after the other"])
def test_damaged_images_that_are_kept_are_rows_with_a_warning(tmp_path: Path, budget: int) -> None:
    stream = io.BytesIO()
    photo(0).save(stream, "JPEG", quality=95)
    jpeg = stream.getvalue()
    half, text = jpeg[:-150] + b"\xff\xd9", b"text"
    rows = unit(tmp_path, [half, jpeg, text, jpeg[:-150]])
    refused = fetch_and_decode(rows, OPTIONS)
    assert refused["error_type"].to_pylist() == ["CorruptImage", None, "UnknownFormat", "TruncatedImage"]
    assert IMAGE_WARNING not in refused.column_names
    options = replace(OPTIONS, keep_damaged=True, max_unit_bytes=budget)
    table = fetch_and_decode(rows, options)
    for _ in range(4):
        if table[ENCODED].null_count < table.num_rows:
            first = table.filter(pc.is_null(table[ENCODED]))
            table = pa.concat_tables([first, decode_encoded_rows(table.filter(pc.is_valid(table[ENCODED])), options)])
    table = table.sort_by("row_id")
    assert table["status"].to_pylist() == ["ok", "ok", "error", "ok"]
    assert table[IMAGE_WARNING].to_pylist() == [
        "jpeg is damaged: its pixels stop before the picture does",
        None,
        None,
        "jpeg is damaged: its end marker is missing",
    ]
    assert [image is not None for image in unpack_images(table[pixels_column(0)])] == [True, True, False, True]


def test_damage_is_seen_before_a_jpeg_is_left_to_the_device(tmp_path: Path) -> None:
    stream = io.BytesIO()
    photo(0).save(stream, "JPEG", quality=95)
    jpeg = stream.getvalue()
    rows = unit(tmp_path, [jpeg[:-150] + b"\xff\xd9", jpeg])
    table = fetch_and_decode(rows, replace(OPTIONS, on_device=True))
    assert table["error_type"].to_pylist() == ["CorruptImage", None]
    assert [content is not None for content in table[ENCODED].to_pylist()] == [False, True]


def test_too_many_pixels_are_an_error(tmp_path: Path) -> None:
    options = DecodeOptions(views=(SMALL,), max_pixels=HEIGHT * WIDTH - 1)
    [kind] = fetch_and_decode(unit(tmp_path, [encoded(0)]), options)["error_type"].to_pylist()
    assert "pixel" in kind.lower()


def test_an_image_too_thin_for_a_view_affects_only_its_own_row(tmp_path: Path) -> None:
    options = DecodeOptions(views=(View(resize=256, crop=(224, 224)), View(resize=384)), max_pixels=10**6)
    stream = io.BytesIO()
    Image.new("RGB", (10_000, 10)).save(stream, "PNG")
    table = fetch_and_decode(unit(tmp_path, [encoded(0), stream.getvalue()]), options)
    assert table["error_type"].to_pylist() == [None, "TooManyPixels"]
    assert "384000 x 384" in table["error_message"].to_pylist()[1]


def test_a_jpeg_whose_colours_are_converted_is_not_left_to_the_device(tmp_path: Path) -> None:
    stream = io.BytesIO()
    photo(0).save(stream, "JPEG", icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    options = replace(OPTIONS, on_device=True)
    is_encoded = [
        fetch_and_decode(unit(tmp_path, [stream.getvalue()]), replace(options, icc=icc))[ENCODED].null_count == 0
        for icc in (False, True)
    ]
    assert is_encoded == [True, False]


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write(encoded(0))
    rows = entry_table([path], [None], [None]).add_column(0, "row_id", pa.array([0]))
    table = fetch_and_decode(rows, OPTIONS)
    assert table.select(["image_uri", "status"]).to_pylist() == [
        {"image_uri": f"{tmp_path}/caf\\xe9.png", "status": "ok"}
    ]


CONTENTS = {"a.png": encoded(0), "b.png": b"text", "../c.png": encoded(1), "d.png": encoded(2)}


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.zst", "x.zip", "x.feather"])
def test_images_in_containers(tmp_path: Path, name: str) -> None:
    if name.endswith("feather"):
        shards.arrow(tmp_path / name, pa.table({"image": shards.images(CONTENTS.values())}))
    else:
        (shards.zipped if name.endswith("zip") else shards.tar)(tmp_path / name, CONTENTS)  # type: ignore[operator]
    planned = shards.planned(shards.source(tmp_path / name))
    rows = planned.add_column(0, "row_id", pa.array(range(planned.num_rows)))
    table = fetch_and_decode(rows, OPTIONS)
    unsafe = [] if name.endswith("feather") else [2]
    assert table["error_type"].to_pylist() == [None, "UnknownFormat", "UnsafeMember" if unsafe else None, None]
    assert table["error_stage"].to_pylist()[1:3] == ["decode", "fetch" if unsafe else None]
    assert not set(INTERNAL) & set(table.column_names)
    good_rows = [0, 3] if unsafe else [0, 2, 3]
    expected = [hashlib.sha256(content).hexdigest() for content in CONTENTS.values()]
    assert [table["content_sha256"][row].as_py() for row in good_rows] == [expected[row] for row in good_rows]
    pixels = unpack_images(table[pixels_column(0)])
    np.testing.assert_array_equal(pixels[3], apply_view(WHOLE, photo(2)))


def test_a_damaged_archive_affects_only_its_own_rows(tmp_path: Path) -> None:
    path = shards.tar(tmp_path / "x.tar.gz", {f"{number}.png": encoded(number) for number in range(4)})
    (tmp_path / "y.png").write_bytes(encoded(9))
    planned = shards.planned(shards.source(tmp_path))
    path.write_bytes(path.read_bytes()[:900])
    table = fetch_and_decode(planned.add_column(0, "row_id", pa.array(range(5))), OPTIONS)
    assert table["status"].to_pylist() == ["ok", "error", "error", "error", "ok"]
    assert set(table["error_type"].to_pylist()) == {None, "DamagedArchive"}
    assert not any(table["error_transient"].to_pylist())


@pytest.mark.parametrize("budget_images", [1, 3])
def test_rows_beyond_the_pixel_budget_stay_encoded_and_are_decoded_later(tmp_path: Path, budget_images: int) -> None:
    per_image = (HEIGHT * WIDTH + 16) * 3
    options = replace(OPTIONS, max_unit_bytes=budget_images * per_image, threads=1)
    contents = [encoded(0), None, *(encoded(number) for number in range(2, 8)), b"text"]
    whole = fetch_and_decode(unit(tmp_path, contents), options)
    is_encoded = pc.is_valid(whole[ENCODED])
    assert pc.sum(pc.invert(is_encoded)).as_py() == budget_images + 1, "the missing file waits for nothing"
    encoded_rows = whole.filter(is_encoded)
    assert set(encoded_rows["status"].to_pylist()) == {"ok"}
    assert encoded_rows["width"].null_count == encoded_rows.num_rows
    for number, data in zip(encoded_rows["row_id"].to_pylist(), encoded_rows[ENCODED].to_pylist(), strict=True):
        assert data == contents[number - 100]

    for number in range(8):
        (tmp_path / f"{number}.png").unlink(missing_ok=True)  # nothing is fetched twice
    tables, rounds = [whole.filter(pc.invert(is_encoded))], 0
    while encoded_rows.num_rows:
        decoded = decode_encoded_rows(encoded_rows, options)
        assert decoded.schema == whole.schema
        is_encoded, rounds = pc.is_valid(decoded[ENCODED]), rounds + 1
        tables.append(decoded.filter(pc.invert(is_encoded)))
        encoded_rows = decoded.filter(is_encoded)
    assert rounds == -(-7 // budget_images) - 1 + (budget_images == 1)
    (tmp_path / "again").mkdir()
    expected = fetch_and_decode(unit(tmp_path / "again", contents), OPTIONS)
    assert_same(pa.concat_tables(tables).sort_by("row_id"), expected)


def assert_same(table: pa.Table, expected: pa.Table) -> None:
    skipped = {"image_uri", "error_message"}
    names = [name for name in expected.column_names if not name.startswith("_") and name not in skipped]
    assert table.select(names).to_pydict() == expected.select(names).to_pydict()
    for index in range(2):
        pairs: Any = zip(
            unpack_images(table[pixels_column(index)]), unpack_images(expected[pixels_column(index)]), strict=True
        )
        for pixels, expected_pixels in pairs:
            assert (pixels is None) == (expected_pixels is None)
            assert pixels is None or np.array_equal(pixels, expected_pixels)


def test_plain_jpegs_are_left_to_the_device(tmp_path: Path) -> None:
    stream = io.BytesIO()
    photo(3).save(stream, "JPEG")
    jpeg = stream.getvalue()
    table = fetch_and_decode(unit(tmp_path, [encoded(0), jpeg, jpeg[:100], None]), replace(OPTIONS, on_device=True))
    assert table["status"].to_pylist() == ["ok", "ok", "error", "error"]
    assert table[TURN].to_pylist() == [None, 1, None, None]
    assert [data is not None for data in table[ENCODED].to_pylist()] == [False, True, False, False]
    assert table[ENCODED][1].as_py() == jpeg
    assert table["width"].to_pylist() == [WIDTH, WIDTH, None, None]
    assert table["format"].to_pylist() == ["png", "jpeg", None, None]
    assert table[pixels_column(0)].is_valid().to_pylist() == [True, False, False, False]
    assert fetch_and_decode(unit(tmp_path, [jpeg]), OPTIONS)[TURN].to_pylist() == [None]


def test_all_units_use_the_same_decode_threads(tmp_path: Path) -> None:
    def threads() -> set[threading.Thread]:
        fetch_and_decode(unit(tmp_path, [encoded(0), encoded(1), encoded(2)]), OPTIONS)
        return {thread for thread in threading.enumerate() if thread.name.startswith("decode")}

    first = threads()
    assert set() < threads() <= first, "the allocator keeps what new ones take"


def test_decoding_does_not_change_the_process_priority(tmp_path: Path) -> None:
    niceness = os.nice(0)
    fetch_and_decode(unit(tmp_path, [encoded(0)]), OPTIONS)
    assert os.nice(0) == niceness
