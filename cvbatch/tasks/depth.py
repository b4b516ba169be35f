"""Depth: how far or near each place of an image is, as a map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cvbatch.errors import capture_row_error
from cvbatch.images.preprocess import Size, compute_crop_geometry
from cvbatch.tasks.base import Agreement, BatchSizes, Columns, ModelFacts, Task
from cvbatch.tasks.depth_maps import DepthMap, decode_depth, encode_depths
from cvbatch.tasks.output_checks import REAL, expect_finite, expect_shape, invalid_output_error, to_number_array

DEPTH_DIFFERENCE: Final = 0.02
"""The tolerance of the parity certificate: the mean difference of values, as a share of a map's range."""


class DepthTask(Task):
    """An answer is a `DepthMap`."""

    name = "depth"
    batch_sizes = BatchSizes(cpu=1, cuda=8)
    locates_objects = True
    covers_image = True
    has_labels = False

    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.column_types`."""
        return {"map": pa.binary(), "min": pa.float32(), "max": pa.float32()}

    def to_columns(self, model: ModelFacts, answers: Sequence[DepthMap]) -> dict[str, pa.Array]:
        """See `Task.to_columns`."""
        maps, lows, highs = zip(*answers, strict=True)
        return {
            "map": pa.array(maps, pa.binary()),
            "min": pa.array(lows, pa.float32()),
            "max": pa.array(highs, pa.float32()),
        }

    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Encode the outputs' `depths`; one with a number that is none is a `RowError`."""
        return [capture_row_error("predict", partial(_encode, model, depths)) for depths in outputs.depths]

    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse_answers`: for each image a map of numbers, (height, width), over the whole view."""
        return [
            capture_row_error("predict", partial(_parse_map, model, depths, size))
            for depths, size in zip(raw, sizes, strict=True)
        ]

    def compare_columns(self, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare_columns`: by the mean difference of maps, as a share of the reference's range."""
        differences = [_difference(reference, candidate, row) for row in range(len(sizes))]
        largest = max(differences, default=1.0)
        return {"largest_mean_difference": largest}, largest <= DEPTH_DIFFERENCE


DEPTH: Final = DepthTask()


def _encode(model: ModelFacts, depths: Any) -> DepthMap:
    expect_finite(model, "depths", depths)
    return encode_depths(depths)


def _parse_map(model: ModelFacts, raw: Any, size: Size) -> DepthMap:
    depths = to_number_array(model, "depths", raw, REAL)
    expect_shape(model, "depths", depths, (None, None))
    if not depths.size:
        raise invalid_output_error(model, f"expected depths of pixels, got an array of shape {depths.shape}")
    geometry = compute_crop_geometry(model.view, size)
    if geometry.size != geometry.resized_size:  # the frame around the image has no depth
        expect_shape(model, "depths", depths, geometry.size[::-1])
        (left, top), (width, height) = geometry.offset, geometry.resized_size
        depths = depths[-top : height - top, -left : width - left]
    return _encode(model, depths.astype(np.float64))


def _difference(reference: Columns, candidate: Columns, row: int) -> float:
    maps = [[columns[name][row].as_py() for name in ("map", "min", "max")] for columns in (reference, candidate)]
    if any(values[0] is None for values in maps):
        return float(maps[0][0] is not maps[1][0])
    expected, actual = (decode_depth(*values) for values in maps)
    if expected.shape != actual.shape:
        return 1.0
    span = maps[0][2] - maps[0][1]
    return float(np.abs(expected - actual).mean() / span) if span else float(np.abs(expected - actual).max() > 0)
