"""Load predictor and decoder in the predict process, and split units into batches that fit the pixel budget."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.images.arrow_pixels import RgbArray, unpack_images, unpack_tiles
from cvbatch.images.preprocess import Size, View, compute_output_size
from cvbatch.images.tile_pixels import TilePixels
from cvbatch.images.tiles import cut_windows
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.torch_compat import HUGE_PAGES
from cvbatch.models.spec import ModelSpec
from cvbatch.schema import ENCODED, HEIGHT, TURN, WIDTH, pixels_column
from cvbatch.stages.decode import DecodeOptions, decode_encoded_rows, open_encoded_row
from cvbatch.system.control_group import usable_cores

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor
    from cvbatch.inference.torch.gpu_decode import GpuDecoder


_one_large_picture: Final = threading.Lock()
"""Units that an actor processes at once have one such picture in memory."""


def load_predictor(
    models: Sequence[ModelSpec], device: str, setting: InferenceSettings, batch_size: int | None, threads: int
) -> Predictor:
    """Load the models of a job in the process that predicts.

    Raises:
        NoMemoryForModelsError: If there is no memory for all of them.
    """
    os.environ.setdefault(HUGE_PAGES, "1")  # torch reads it once, for its first tensor
    from cvbatch.inference.predictor import Predictor, check_models_fit  # the only import of torch in this process

    # Ray may have more logical CPUs than this machine has cores
    threads = min(threads, usable_cores())
    with check_models_fit(models):
        return Predictor(models, device=device, setting=setting, batch_size=batch_size, threads=threads)


@dataclass(frozen=True, slots=True)
class PredictorBatch:
    """Rows of a unit as input of a predictor."""

    table: pa.Table
    views: Mapping[View, Sequence[Any]]
    """Pixels of each row by view, `TilePixels` if the view cuts tiles, None for rows without; on the host or on the
    device."""
    sizes: Sequence[Size]
    """(width, height) of each oriented original."""


def load_decoder(options: DecodeOptions, device: str) -> GpuDecoder | None:
    """Return the decoder on the device; None if the host decodes."""
    if not options.on_device:
        return None
    import_torchvision()
    from cvbatch.inference.torch.gpu_decode import GpuDecoder

    return GpuDecoder(options.views, device)


def split_unit(unit: pa.Table, options: DecodeOptions, decoder: GpuDecoder | None = None) -> Iterator[PredictorBatch]:
    """Split a unit of the decode stage into batches, and decode rows that are still encoded."""
    encoded = pc.is_valid(unit[ENCODED])
    if not pc.all(encoded).as_py():
        yield _to_predictor_batch(unit.filter(pc.invert(encoded)) if pc.any(encoded).as_py() else unit, options)
    if options.cuts_tiles:
        for index in np.flatnonzero(encoded.to_numpy()).tolist():
            with _one_large_picture:
                yield _open_row(unit.slice(index, 1), options)  # a filter would copy the file
        return
    encoded_rows = unit.filter(encoded)
    if decoder is not None and encoded_rows.num_rows:
        is_plain = pc.is_valid(encoded_rows[TURN])
        for_host = [encoded_rows.filter(pc.invert(is_plain))]
        for device_rows in _slices_within_budget(encoded_rows.filter(is_plain), options):
            batch, failed_rows = _decode_on_device(device_rows, options, decoder)
            for_host.append(failed_rows)
            if batch.table.num_rows:
                yield batch
        encoded_rows = pa.concat_tables(for_host)
    on_host = replace(options, on_device=False)
    while encoded_rows.num_rows:
        decoded = decode_encoded_rows(encoded_rows, on_host)
        still_encoded = pc.is_valid(decoded[ENCODED])
        yield _to_predictor_batch(decoded.filter(pc.invert(still_encoded)), options)
        encoded_rows = decoded.filter(still_encoded)


def _open_row(row: pa.Table, options: DecodeOptions) -> PredictorBatch:
    """Return a batch of one picture whose tiles are read while they are predicted."""
    table, picture = open_encoded_row(row, options)
    views = dict.fromkeys(options.views) if picture is None else picture.lazy_views()
    return PredictorBatch(table, {view: [pixels] for view, pixels in views.items()}, _original_sizes(table))


def _to_predictor_batch(table: pa.Table, options: DecodeOptions) -> PredictorBatch:
    sizes = _original_sizes(table)
    views = {view: _unpack_view(view, table[pixels_column(index)], sizes) for index, view in enumerate(options.views)}
    return PredictorBatch(table, views, sizes)


def _unpack_view(view: View, column: pa.ChunkedArray, sizes: Sequence[Size]) -> Sequence[RgbArray | TilePixels | None]:
    if view.tiles is None:
        return unpack_images(column)
    return [
        None if tiles is None else TilePixels(cut_windows(view.tiles, size), list(enumerate(tiles)))
        for tiles, size in zip(unpack_tiles(column), sizes, strict=True)
    ]


def _slices_within_budget(table: pa.Table, options: DecodeOptions) -> Iterator[pa.Table]:
    """Split rows so that the pixels of a slice fit the budget of a unit, or exceed it by at most one image."""
    start = held_bytes = 0
    for index, size in enumerate(_original_sizes(table)):
        if held_bytes > options.max_unit_bytes:
            yield table.slice(start, index - start)
            start, held_bytes = index, 0
        held_bytes += sum(3 * math.prod(compute_output_size(view, size)) for view in options.views)
    if table.num_rows:
        yield table.slice(start)


def _decode_on_device(table: pa.Table, options: DecodeOptions, decoder: GpuDecoder) -> tuple[PredictorBatch, pa.Table]:
    """Return a batch of the rows that the device decoded, and the rows that it could not decode."""
    sizes = _original_sizes(table)
    results = decoder(_encoded_views(table[ENCODED]), table[TURN].to_pylist(), sizes)
    is_decoded = pa.array([images is not None for images in results], pa.bool_())
    views = {
        view: [images[index] for images in results if images is not None] for index, view in enumerate(options.views)
    }
    decoded = table.filter(is_decoded)
    return PredictorBatch(decoded, views, _original_sizes(decoded)), table.filter(pc.invert(is_decoded))


def _encoded_views(column: pa.ChunkedArray) -> list[npt.NDArray[np.uint8]]:
    """Return the encoded files as views, without a copy."""
    return [np.frombuffer(file.as_buffer(), np.uint8) for file in column]


def _original_sizes(table: pa.Table) -> list[Size]:
    """Return (width, height) of each oriented original; 0 where unknown."""
    return list(zip(table[WIDTH].fill_null(0).to_pylist(), table[HEIGHT].fill_null(0).to_pylist(), strict=True))
