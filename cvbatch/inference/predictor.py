"""Run all models of a job on one unit of images."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from cvbatch.errors import ModelError, NoMemoryForModelsError, RowError, capture_row_error
from cvbatch.images.preprocess import Size, View
from cvbatch.images.tile_pixels import TilePixels
from cvbatch.inference import loading
from cvbatch.inference.loading import probe_model
from cvbatch.inference.network import Image, Network
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.inference.tiled_pass import run_on_tiles
from cvbatch.models.spec import ModelSpec
from cvbatch.system.control_group import usable_cores
from cvbatch.tasks import TASKS

__all__ = ["ModelOutputs", "Predictor", "check_models_fit", "probe_model"]

_GPU_LANES = 3
"""One batch computes while another is copied to the device and a third is turned into answers."""
_LOW_PRECISION_FACTOR = 2
"""More images fit the caches: ResNet-50 at bf16 does 44 images/s on two cores in batches of 8, and 45 in 16."""

_Answered = tuple[dict[str, list[Any]], list[RowError | None]]
"""Answers of all images by alias, and an error for each image or None."""
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
_NO_MEMORY_LEFT = ("can't allocate memory", "not enough memory", "out of memory")
"""Texts of torch's plain RuntimeError on CPUs, and of ONNX Runtime's and CUDA's errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutputs:
    """The answers of all models for one unit."""

    columns: dict[str, pa.Array]
    """All columns of all specs; one value per image, null where there is no image or an error."""
    errors: list[RowError | None]
    """For each image the error of a model, or None."""


@dataclass(slots=True, kw_only=True)
class _NetworkPass:
    """One network on one view, for all specs that share both."""

    network: Network
    view: View
    specs: tuple[ModelSpec, ...]
    batch_size: int
    reduced: bool = False
    """Whether the batch size was reduced because memory ran out."""
    may_not_fit: bool = False
    """Whether other networks share the memory, and this one has not answered yet."""

    @property
    def model_aliases(self) -> str:
        """The aliases of its specs, joined by `+`."""
        return "+".join(spec.alias for spec in self.specs)

    def fits_less_than(self, count: int) -> None:
        """Reduce the batch size after this many images did not fit into memory."""
        self.batch_size, self.reduced = min(self.batch_size, max(1, count // 2)), True


class Predictor:
    """Networks of a job; constructed once per process that predicts.

    Args:
        specs: Complete specs; see `probe_model`.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: How the networks run.
        batch_size: Images, or tiles, in one forward pass; None chooses by task, device and setting.
        threads: CPU cores to use; None uses all that this process may use. Each core works on a batch of its own and
            does not wait for the others after each layer: 5 to 10 % faster for ResNet-50 at bf16 on two cores.

    Raises:
        ModelError: The weights of a model do not fit, or a factory fails.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        device: str = "cpu",
        setting: InferenceSettings = REFERENCE,
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._specs = tuple(specs)
        networks: dict[Any, Network] = {}
        shared: defaultdict[Any, list[ModelSpec]] = defaultdict(list)
        for spec in specs:
            key = loading.network_key(spec)
            if key not in networks:
                networks[key] = loading.load_network(spec, device=device, setting=setting)
            shared[key, spec.view].append(spec)
        self._threads = threads or usable_cores()
        kind = device.partition(":")[0]
        self._split_evenly = kind == "cpu"  # a GPU needs full batches; other units fill its lanes
        self._lanes = setting.lanes or (self._threads if kind == "cpu" else _GPU_LANES)
        self._lock, self._running_batches = threading.Lock(), 0
        self._pool = ThreadPoolExecutor(self._lanes, thread_name_prefix="lane")
        self._single = ThreadPoolExecutor(1, thread_name_prefix="single-lane")
        factor = setting.batch_factor
        if kind == "cpu" and setting.precision != "fp32":
            factor *= _LOW_PRECISION_FACTOR
        self._passes = [
            _NetworkPass(
                network=networks[key],
                view=view,
                specs=tuple(group),
                batch_size=batch_size or max(1, round(factor * _usual_batch_size(group, kind))),
            )
            for (key, view), group in shared.items()
        ]
        for step in self._passes:
            step.may_not_fit = len(networks) > 1

    @property
    def reduced_batch_sizes(self) -> dict[str, int]:
        """Batch sizes that were reduced because memory ran out, by aliases."""
        return {step.model_aliases: step.batch_size for step in self._passes if step.reduced}

    def predict_views(
        self, views: Mapping[View, Sequence[Image | TilePixels | None]], sizes: Sequence[Size]
    ) -> ModelOutputs:
        """Run all models on one unit. Threads that call it at the same time share the lanes.

        Args:
            views: For each view of the specs, one uint8 RGB array (height, width, 3) per image, or its tiles if the
                view cuts tiles; None is skipped.
            sizes: (width, height) of each oriented original.
        """
        errors: list[RowError | None] = [None] * len(sizes)
        answers: dict[str, list[Any]] = {}
        for step in self._passes:
            answers_of_pass, errors_of_pass = self._run_pass(step, views[step.view], sizes)
            answers |= answers_of_pass
            errors = [earlier or error for earlier, error in zip(errors, errors_of_pass, strict=True)]
        columns: dict[str, pa.Array] = {}
        for spec in self._specs:
            columns |= _columns_of_answers(spec, answers[spec.alias], errors)
        return ModelOutputs(columns=columns, errors=errors)

    def _run_pass(self, step: _NetworkPass, images: Sequence[Any], sizes: Sequence[Size]) -> _Answered:
        """Run one network on all images, or on their tiles."""
        if step.view.tiles is None:
            return self._run_images(step, images, sizes)
        batch = self._lanes * step.batch_size
        return run_on_tiles(images, sizes, step.specs, partial(self._run_images, step), batch)

    def _run_images(self, step: _NetworkPass, images: Sequence[Image | None], sizes: Sequence[Size]) -> _Answered:
        errors: list[RowError | None] = [None] * len(sizes)
        answers: dict[str, list[Any]] = {spec.alias: [None] * len(sizes) for spec in step.specs}
        lanes, pool = (self._lanes, self._pool) if step.network.parallel else (1, self._single)
        batches = _split_into_batches(step, images, lanes if self._split_evenly else 1)
        work = partial(_answer_batch, step, images=images, sizes=sizes, answers=answers, errors=errors)
        with self._share_threads(len(batches)) as running_batches:
            step.network.use_threads(max(1, self._threads // max(1, min(lanes, running_batches))))
            list(pool.map(work, batches))
        return answers, errors

    @contextmanager
    def _share_threads(self, batches: int) -> Iterator[int]:
        """Yield the number of batches that share the cores: these, and those of other running units."""
        with self._lock:
            self._running_batches += batches
            running_batches = self._running_batches
        try:
            yield running_batches
        finally:
            with self._lock:
                self._running_batches -= batches


def _split_into_batches(step: _NetworkPass, images: Sequence[Image | None], lanes: int) -> list[list[int]]:
    """Return positions of images that share a forward pass; as many batches as lanes, if possible."""
    positions_by_key: defaultdict[Any, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        if image is not None:
            positions_by_key[step.network.batch_key(image)].append(position)
    share = math.ceil(sum(map(len, positions_by_key.values())) / lanes)
    size = max(1, min(step.batch_size, share))
    return [
        positions[start : start + size]
        for positions in positions_by_key.values()
        for start in range(0, len(positions), size)
    ]


def _answer_batch(
    step: _NetworkPass,
    batch: list[int],
    images: Sequence[Image | None],
    sizes: Sequence[Size],
    answers: dict[str, list[Any]],
    errors: list[RowError | None],
) -> None:
    """Run one batch; if it fails, run its halves, so that only the image that causes the error has no answer."""
    pixels = [image for image in (images[position] for position in batch) if image is not None]
    result = capture_row_error(
        "predict", lambda: step.network.run_batch(pixels, [sizes[position] for position in batch], step.specs)
    )
    if not isinstance(result, RowError):
        step.may_not_fit = False
        for spec in step.specs:
            for position, value in zip(batch, TASKS[spec.task].check_answers(spec, result[spec.alias]), strict=True):
                if isinstance(value, RowError):
                    errors[position] = errors[position] or value
                else:
                    answers[spec.alias][position] = value
        return
    if out_of_memory := _is_out_of_memory(result):
        step.fits_less_than(len(batch))
    if len(batch) == 1 and out_of_memory and step.may_not_fit:
        raise NoMemoryForModelsError(f"no memory for a single image of {step.model_aliases} beside the other models")
    if len(batch) == 1:
        errors[batch[0]] = replace(result, transient=True) if out_of_memory else result
    else:
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            _answer_batch(step, half, images, sizes, answers, errors)


def _is_out_of_memory(error: RowError) -> bool:
    return error.type in _OUT_OF_MEMORY or any(text in error.message for text in _NO_MEMORY_LEFT)


@contextmanager
def check_models_fit(specs: Sequence[ModelSpec]) -> Iterator[None]:
    """Raise a `NoMemoryForModelsError` for an error inside the block that says that memory ran out.

    Args:
        specs: Of several networks; that of a single one passes as it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ModelError) as error:  # own models: a ModelError with the text of their error
        text = f"{type(error).__name__}: {error}"
        is_alone = len({loading.network_key(spec) for spec in specs}) < 2
        if is_alone or not any(phrase in text for phrase in (*_OUT_OF_MEMORY, *_NO_MEMORY_LEFT)):
            raise
        aliases = ", ".join(spec.alias for spec in specs)
        raise NoMemoryForModelsError(f"no memory for {aliases} beside each other: {error}") from None


def _usual_batch_size(specs: Iterable[ModelSpec], kind: str) -> int:
    sizes = [TASKS[spec.task].batch_sizes for spec in specs]
    return min(size.cpu if kind == "cpu" else size.cuda for size in sizes)


def _columns_of_answers(spec: ModelSpec, answers: list[Any], errors: list[RowError | None]) -> dict[str, pa.Array]:
    answered_rows = [row for row, answer in enumerate(answers) if answer is not None and errors[row] is None]
    task = TASKS[spec.task]
    types = task.column_types(spec)
    if not answered_rows:
        return {f"{spec.alias}_{name}": pa.nulls(len(answers), kind) for name, kind in types.items()}
    arrays = task.to_columns(spec, [answers[row] for row in answered_rows])
    if arrays.keys() != types.keys():
        expected, got = (", ".join(names) for names in (types, arrays))
        raise TypeError(f"{type(task).__name__}.to_columns: expected the columns {expected}, got {got}")
    if len(answered_rows) < len(answers):
        positions_in_arrays = np.zeros(len(answers), np.int64)
        positions_in_arrays[answered_rows] = np.arange(len(answered_rows))
        missing = np.ones(len(answers), np.bool_)
        missing[answered_rows] = False
        rows = pa.array(positions_in_arrays, mask=missing)
        arrays = {name: array.take(rows) for name, array in arrays.items()}
    return {f"{spec.alias}_{name}": arrays[name].cast(kind) for name, kind in types.items()}
