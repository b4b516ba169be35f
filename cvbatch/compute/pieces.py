"""The predictor of a process, and a decoded unit as it takes it: pieces whose pixels fit the budget, views, sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.compute.cluster import local_cores
from cvbatch.compute.decode_stage import ENCODED, DecodeOptions, decode_encoded, pixels_column
from cvbatch.models.spec import ModelSpec
from cvbatch.pixels import unpack
from cvbatch.setting import Setting
from cvbatch.views import View

if TYPE_CHECKING:
    from cvbatch.models.predictor import Predictor


def load_predictor(
    models: Sequence[ModelSpec], device: str, setting: Setting, batch_size: int | None, threads: int
) -> Predictor:
    """Load the models of a job in the process that predicts."""
    from cvbatch.models.predictor import Predictor  # torch is loaded here and nowhere else

    # logical CPUs of the cluster may be more than this machine has cores
    threads = min(threads, local_cores())
    return Predictor(models, device=device, setting=setting, batch_size=batch_size, threads=threads)


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
