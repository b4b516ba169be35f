"""All models of a job, answering for one unit of images."""

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

from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.preprocess import Size, View
from cvbatch.inference import loading
from cvbatch.inference.loading import probe_model
from cvbatch.inference.network import Image, Network
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.spec import ModelSpec
from cvbatch.system.control_group import usable_cores
from cvbatch.tasks import TASKS

__all__ = ["ModelOutputs", "Predictor", "probe_model"]

_GPU_LANES = 3
"""While one batch computes, another is copied to the device and the answers of a third are made."""
_LOW_PRECISION_FACTOR = 2
"""At bf16 more images fit the caches: ResNet-50 does 44 images/s on two cores in eights, and 45 in sixteens."""

_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
_NO_MEMORY_LEFT = ("can't allocate memory", "not enough memory")
"""What torch says on CPUs, as a plain RuntimeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutputs:
    """What all models say of one unit."""

    columns: dict[str, pa.Array]
    """All fields of all specs, one value per image, null where there is no image or an error."""
    errors: list[RowError | None]
    """Per image, what kept a model from answering."""


@dataclass(slots=True, kw_only=True)
class _NetworkPass:
    """One network on one view, for all specs that want that."""

    network: Network
    view: View
    specs: tuple[ModelSpec, ...]
    batch_size: int
    reduced: bool = False
    """Whether the memory was not enough for the batch size that it began with."""

    @property
    def model_aliases(self) -> str:
        """The specs that it serves."""
        return "+".join(spec.alias for spec in self.specs)

    def fits_less_than(self, count: int) -> None:
        """Remember that so many images were too many."""
        self.batch_size, self.reduced = min(self.batch_size, max(1, count // 2)), True


class Predictor:
    """Holds the networks of a job; constructed once per process that predicts.

    Args:
        specs: Complete; see `probe`.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: How the networks run.
        batch_size: Images in one forward pass; by default by task, device and setting.
        threads: Cores of a CPU to use; None takes all that this process may use. Each works on a batch of its own: on
            two cores ResNet-50 at bf16 is 5 to 10 % faster so, because no core waits for the other after each layer.

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
        self._even = kind == "cpu"  # a GPU wants full batches, and other units fill its lanes
        self._lanes = setting.lanes or (self._threads if kind == "cpu" else _GPU_LANES)
        self._lock, self._under_way = threading.Lock(), 0
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

    @property
    def reduced_batch_sizes(self) -> dict[str, int]:
        """Batch sizes that memory has forced down, by the aliases that they serve."""
        return {step.model_aliases: step.batch_size for step in self._passes if step.reduced}

    def predict_views(self, views: Mapping[View, Sequence[Image | None]], sizes: Sequence[Size]) -> ModelOutputs:
        """Answer for one unit; several threads may ask at once, and share the lanes: none idles while another has work.

        Args:
            views: For each view of the specs one uint8 RGB array (height, width, 3) per image; None is skipped.
            sizes: (width, height) of each oriented original.
        """
        errors: list[RowError | None] = [None] * len(sizes)
        answers: dict[str, list[Any]] = {spec.alias: [None] * len(sizes) for spec in self._specs}
        for step in self._passes:
            self._run_pass(step, views[step.view], sizes, answers, errors)
        columns: dict[str, pa.Array] = {}
        for spec in self._specs:
            columns |= _columns_of_answers(spec, answers[spec.alias], errors)
        return ModelOutputs(columns=columns, errors=errors)

    def _run_pass(
        self,
        step: _NetworkPass,
        images: Sequence[Image | None],
        sizes: Sequence[Size],
        answers: dict[str, list[Any]],
        errors: list[RowError | None],
    ) -> None:
        lanes, pool = (self._lanes, self._pool) if step.network.parallel else (1, self._single)
        batches = _split_into_batches(step, images, lanes if self._even else 1)
        work = partial(_answer_batch, step, images=images, sizes=sizes, answers=answers, errors=errors)
        with self._share_threads(len(batches)) as under_way:
            step.network.use_threads(max(1, self._threads // max(1, min(lanes, under_way))))
            list(pool.map(work, batches))

    @contextmanager
    def _share_threads(self, batches: int) -> Iterator[int]:
        """How many batches share the cores: these, and those of the units that are under way."""
        with self._lock:
            self._under_way += batches
            under_way = self._under_way
        try:
            yield under_way
        finally:
            with self._lock:
                self._under_way -= batches


def _split_into_batches(step: _NetworkPass, images: Sequence[Image | None], lanes: int) -> list[list[int]]:
    """Positions of images that share a forward pass; as many batches as there are lanes, if that can be."""
    alike: defaultdict[Any, list[int]] = defaultdict(list)
    for at, image in enumerate(images):
        if image is not None:
            alike[step.network.batch_key(image)].append(at)
    share = math.ceil(sum(map(len, alike.values())) / lanes)
    size = max(1, min(step.batch_size, share))
    return [positions[start : start + size] for positions in alike.values() for start in range(0, len(positions), size)]


def _answer_batch(
    step: _NetworkPass,
    batch: list[int],
    images: Sequence[Image | None],
    sizes: Sequence[Size],
    answers: dict[str, list[Any]],
    errors: list[RowError | None],
) -> None:
    """Run one batch; if it fails, its halves, so that only the image that is the cause has no answer."""
    pixels = [image for image in (images[at] for at in batch) if image is not None]
    found = capture_row_error(
        "predict", lambda: step.network.run_batch(pixels, [sizes[at] for at in batch], step.specs)
    )
    if not isinstance(found, RowError):
        for spec in step.specs:
            for at, value in zip(batch, TASKS[spec.task].check_answers(spec, found[spec.alias]), strict=True):
                if isinstance(value, RowError):
                    errors[at] = errors[at] or value
                else:
                    answers[spec.alias][at] = value
        return
    if out_of_memory := _is_out_of_memory(found):
        step.fits_less_than(len(batch))
    if len(batch) == 1:
        errors[batch[0]] = replace(found, transient=True) if out_of_memory else found
    else:
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            _answer_batch(step, half, images, sizes, answers, errors)


def _is_out_of_memory(error: RowError) -> bool:
    return error.type in _OUT_OF_MEMORY or any(words in error.message for words in _NO_MEMORY_LEFT)


def _usual_batch_size(specs: Iterable[ModelSpec], kind: str) -> int:
    sizes = [TASKS[spec.task].batch_sizes for spec in specs]
    return min(size.cpu if kind == "cpu" else size.cuda for size in sizes)


def _columns_of_answers(spec: ModelSpec, answers: list[Any], errors: list[RowError | None]) -> dict[str, pa.Array]:
    good = [row for row, answer in enumerate(answers) if answer is not None and errors[row] is None]
    task = TASKS[spec.task]
    types = task.column_types(spec)
    if not good:
        return {f"{spec.alias}_{name}": pa.nulls(len(answers), kind) for name, kind in types.items()}
    arrays = task.to_columns(spec, [answers[row] for row in good])
    if arrays.keys() != types.keys():
        expected, got = (", ".join(names) for names in (types, arrays))
        raise TypeError(f"{type(task).__name__}.columns: expected the columns {expected}, got {got}")
    if len(good) < len(answers):
        places = np.zeros(len(answers), np.int64)
        places[good] = np.arange(len(good))
        absent = np.ones(len(answers), np.bool_)
        absent[good] = False
        rows = pa.array(places, mask=absent)
        arrays = {name: array.take(rows) for name, array in arrays.items()}
    return {f"{spec.alias}_{name}": arrays[name].cast(kind) for name, kind in types.items()}
