"""Images in every binary type, alone or in a struct, in Parquet and Arrow, compressed or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from cvbatch.sources.tables.image_types import encoded_images, image_values, is_bytes_struct, is_encoded_image_type
from tests.sources.shards import kinds, planned, source

SIZE = 80
CONTENTS = [bytes([at]) * SIZE for at in b"abc"]
ROWS: list[bytes | None] = [CONTENTS[0], None, CONTENTS[1], CONTENTS[0], CONTENTS[2]]
NAMES = ["p0", "p1", None, "p3", "p4"]
FOUND = [CONTENTS[0], "NoImage", CONTENTS[1], CONTENTS[0], CONTENTS[2]]


def dictionary(kind: pa.DataType, index: pa.DataType) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 0, 2], index), pa.array(CONTENTS, kind))


FORMS: dict[str, pa.Array] = {
    **{str(kind): pa.array(ROWS, kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(SIZE))},
    **{
        f"{kind} by {index}": dictionary(kind, index)
        for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(SIZE))
        for index in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64())
    },
    "runs": pc.run_end_encode(pa.array(ROWS)),
    "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "jpeg", "us"), pa.array(ROWS)),
}


def alone(array: pa.Array) -> pa.Array:
    return array


def beside_path(array: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([array, pa.array(NAMES)], names=["bytes", "path"])


def behind_path(array: pa.Array) -> pa.Array:
    fields = [pa.array(range(5)), pa.array(NAMES, pa.string_view()), array, pa.array(range(5), pa.uint8())]
    return pa.StructArray.from_arrays(fields, names=["width", "path", "bytes", "more"])


def with_nulls(array: pa.Array) -> pa.Array:
    mask = pa.array([False, True, False, False, False])
    return pa.StructArray.from_arrays([pa.array(NAMES, pa.large_string()), array], names=["path", "bytes"], mask=mask)


def write(path: Path, table: pa.Table, how: str) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
        return
    options = ipc.IpcWriteOptions(compression=None if how == "plain" else how, emit_dictionary_deltas=False)
    new = ipc.new_file if path.suffix == ".feather" else ipc.new_stream
    with new(str(path), table.schema, options=options) as writer:
        for low, rows in ((0, 0), (0, 2), (2, 0), (2, 3)):
            writer.write_table(table.slice(low, rows))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapped", [alone, beside_path, behind_path, with_nulls])
def test_every_type_in_parquet_and_arrow(tmp_path: Path, form: str, wrapped: Callable[[pa.Array], pa.Array]) -> None:
    column = wrapped(FORMS[form])
    table = pa.table({"n": range(5), "image": column, "digest": pa.array([b"0" * 32] * 5, pa.binary(32))})
    names = NAMES if wrapped is not alone else [None] * 5
    names = [None if wrapped is with_nulls and index == 1 else item for index, item in enumerate(names)]
    for name, how in (
        ("x.parquet", ""), ("x.arrow", "plain"), ("x.arrow", "zstd"), ("x.feather", "plain"), ("x.feather", "lz4")
    ):  # fmt: skip
        try:
            write(tmp_path / name, table, how)
        except (pa.ArrowException, OSError):
            assert name == "x.parquet" or "dictionary" in str(column.type), "Parquet does not hold all, Arrow does"
            continue
        opened = source(tmp_path / name)
        result = planned(opened)
        wanted = ["NotFound" if item == "NoImage" and names[index] else item for index, item in enumerate(FOUND)]
        assert kinds(result) == wanted, (name, how)
        assert result["n"].to_pylist() == list(range(5))
        if wrapped is not alone:
            assert result["image_path"].to_pylist() == names
        if wrapped is behind_path:
            assert result.select(["image_width", "image_more"]).to_pydict() == {
                "image_width": list(range(5)), "image_more": list(range(5))
            }  # fmt: skip


def test_uncompressed_arrow_is_read_by_ranges(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.large_binary()):
        write(tmp_path / "x.arrow", pa.table({"image": pa.array(ROWS, kind)}), "plain")
        hows = [span["how"] for span in planned(source(tmp_path / "x.arrow"))["_span"].to_pylist()]
        assert hows == ["range", "arrow", "range", "range", "range"]


def test_images_that_are_only_paths(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"beside")
    column = pa.StructArray.from_arrays([pa.nulls(1), pa.array(["a.jpg"])], names=["bytes", "path"])
    for name in ("x.parquet", "x.arrow"):
        write(tmp_path / name, pa.table({"image": column}), "plain")
        assert kinds(planned(source(tmp_path / name))) == [b"beside"]


def test_hashes_are_not_images() -> None:
    assert is_encoded_image_type(pa.binary(100))
    assert not is_bytes_struct(pa.struct([("path", pa.string())]))
    assert image_values(pa.array([b"x"]), [0]) == [(b"x", None)]
    same = pa.array([b"x"])
    assert encoded_images(same) is same
