"""What works in a predicting process, and a unit as it takes it: pieces whose pixels fit the budget, views, sizes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.images.arrow_pixels import unpack_images
from cvbatch.images.preprocess import Size, View, compute_output_size
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.torch_compat import HUGE_PAGES
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import ENCODED, HEIGHT, TURN, WIDTH, pixels_column
from cvbatch.stages.decode import DecodeOptions, decode_encoded_rows
from cvbatch.system.control_group import usable_cores

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor
    from cvbatch.inference.torch.gpu_decode import GpuDecoder


def load_predictor(
    models: Sequence[ModelSpec], device: str, setting: InferenceSettings, batch_size: int | None, threads: int
) -> Predictor:
    """Load the models of a job in the process that predicts."""
    os.environ.setdefault(HUGE_PAGES, "1")  # torch looks at it once, with its first tensor
    from cvbatch.inference.predictor import Predictor  # torch is loaded here and nowhere else

    # logical CPUs of the cluster may be more than this machine has cores
    threads = min(threads, usable_cores())
    return Predictor(models, device=device, setting=setting, batch_size=batch_size, threads=threads)


@dataclass(frozen=True, slots=True)
class PredictorBatch:
    """Rows of a unit as a predictor takes them."""

    table: pa.Table
    views: Mapping[View, Sequence[Any]]
    """The pixels of each row, null where it has none; on the host or on the device."""
    sizes: Sequence[Size]
    """(width, height) of each oriented original."""


def load_decoder(options: DecodeOptions, device: str) -> GpuDecoder | None:
    """What decodes on the device, if that is wanted."""
    if not options.on_device:
        return None
    import_torchvision()
    from cvbatch.inference.torch.gpu_decode import GpuDecoder

    return GpuDecoder(options.views, device)


def split_unit(unit: pa.Table, options: DecodeOptions, decoder: GpuDecoder | None = None) -> Iterator[PredictorBatch]:
    """Split a unit of the decode stage; what was left encoded is decoded here."""
    encoded = pc.is_valid(unit[ENCODED])
    if not pc.all(encoded).as_py():
        yield _to_predictor_batch(unit.filter(pc.invert(encoded)) if pc.any(encoded).as_py() else unit, options)
    rest = unit.filter(encoded)
    if decoder is not None and rest.num_rows:
        plain = pc.is_valid(rest[TURN])
        for_host = [rest.filter(pc.invert(plain))]
        for some in _slices_within_budget(rest.filter(plain), options):
            there, failed = _decode_on_device(some, options, decoder)
            for_host.append(failed)
            if there.table.num_rows:
                yield there
        rest = pa.concat_tables(for_host)
    on_host = replace(options, on_device=False)
    while rest.num_rows:
        decoded = decode_encoded_rows(rest, on_host)
        left = pc.is_valid(decoded[ENCODED])
        yield _to_predictor_batch(decoded.filter(pc.invert(left)), options)
        rest = decoded.filter(left)


def _to_predictor_batch(table: pa.Table, options: DecodeOptions) -> PredictorBatch:
    views = {view: unpack_images(table[pixels_column(index)]) for index, view in enumerate(options.views)}
    return PredictorBatch(table, views, _original_sizes(table))


def _slices_within_budget(table: pa.Table, options: DecodeOptions) -> Iterator[pa.Table]:
    """Split rows where their pixels would be more than a unit may hold."""
    start = held = 0
    for at, size in enumerate(_original_sizes(table)):
        if held > options.max_unit_bytes:
            yield table.slice(start, at - start)
            start, held = at, 0
        held += sum(3 * math.prod(compute_output_size(view, size)) for view in options.views)
    if table.num_rows:
        yield table.slice(start)


def _decode_on_device(table: pa.Table, options: DecodeOptions, decoder: GpuDecoder) -> tuple[PredictorBatch, pa.Table]:
    """What the device decoded, and rows that it could not."""
    sizes = _original_sizes(table)
    found = decoder(_encoded_views(table[ENCODED]), table[TURN].to_pylist(), sizes)
    good = pa.array([images is not None for images in found], pa.bool_())
    views = {
        view: [images[index] for images in found if images is not None] for index, view in enumerate(options.views)
    }
    decoded = table.filter(good)
    return PredictorBatch(decoded, views, _original_sizes(decoded)), table.filter(pc.invert(good))


def _encoded_views(column: pa.ChunkedArray) -> list[npt.NDArray[np.uint8]]:
    """The encoded files, without a copy."""
    return [np.frombuffer(file.as_buffer(), np.uint8) for file in column]


def _original_sizes(table: pa.Table) -> list[Size]:
    """(width, height) of each oriented original; 0 where it is not known."""
    return list(zip(table[WIDTH].fill_null(0).to_pylist(), table[HEIGHT].fill_null(0).to_pylist(), strict=True))
