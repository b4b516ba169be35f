"""A decoded unit as the predictor takes it: pieces whose pixels fit the budget, views, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.compute.decode_stage import ENCODED, DecodeOptions, decode_encoded, pixels_column
from cvbatch.pixels import unpack
from cvbatch.views import View


def pieces(unit: pa.Table, options: DecodeOptions) -> Iterator[pa.Table]:
    """Split a unit of the decode stage into tables without encoded rows; those are decoded here."""
    encoded = pc.is_valid(unit[ENCODED])
    yield unit.filter(pc.invert(encoded)) if pc.any(encoded).as_py() else unit
    rest = unit.filter(encoded)
    while rest.num_rows:
        decoded = decode_encoded(rest, options)
        left = pc.is_valid(decoded[ENCODED])
        yield decoded.filter(pc.invert(left))
        rest = decoded.filter(left)


def views_of(table: pa.Table, options: DecodeOptions) -> dict[View, list[Any]]:
    """The pixels of each view."""
    return {view: unpack(table[pixels_column(index)]) for index, view in enumerate(options.views)}


def sizes_of(table: pa.Table) -> list[tuple[int, int]]:
    """(width, height) of each oriented original; 0 where it is not known."""
    return list(zip(table["width"].fill_null(0).to_pylist(), table["height"].fill_null(0).to_pylist(), strict=True))
