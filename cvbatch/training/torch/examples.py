"""Batches of examples: fetched and decoded in threads while the network learns from earlier ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.config.train_job import NO_CHANGES, AugmentConfig
from cvbatch.errors import ImageError, RunError
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.images.preprocess import View, compute_min_decode_side
from cvbatch.schema import IMAGE_URI
from cvbatch.sources.fetch.plan_rows import Fetch, plan_fetches
from cvbatch.training.target_column import TARGET
from cvbatch.training.torch.base import Example, ImagePlace

_AHEAD: Final = 3
"""Batches that are read ahead."""
_TRIES: Final = 3
_PAUSE: Final = 0.5

MakeExample = Callable[[DecodedImage, Any, ImagePlace], Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOrder:
    """How the images of some batches are read."""

    epoch: int = 0
    changes: AugmentConfig = NO_CHANGES

    def place_of(self, image: int, seed: int) -> ImagePlace:
        """Where one image is read; without changes it is read as a run does."""
        changes = None if self.changes == NO_CHANGES else self.changes
        return ImagePlace(image=image, epoch=self.epoch, seed=seed, changes=changes)


class ExampleReader:
    """Reads batches ahead.

    Args:
        images: Of the plan.
        source: Its section of the job.
        view: What the network sees.
        make: Makes an example; see `TrainingTask.make_example`.
        seed: Of the job.
        threads: Threads that read.
    """

    def __init__(
        self, images: pa.Table, source: SourceConfig, view: View, make: MakeExample, *, seed: int, threads: int
    ) -> None:
        self._images, self._source, self._make, self._seed = images, source, make, seed
        self._min_decode_side = compute_min_decode_side([view])
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="examples")
        self.waited = 0.0
        """Seconds that the caller has waited for images."""

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def read_batches(self, batches: Iterable[Sequence[int]], order: ReadOrder) -> Iterator[list[Example]]:
        """Read batches in their order.

        Args:
            batches: Positions in the images.
            order: How.

        Raises:
            RunError: If an image that the plan could read cannot be read any more.
        """
        waiting: deque[list[Future[Example]]] = deque()
        remaining = iter(batches)
        while True:
            while len(waiting) < _AHEAD and (batch := next(remaining, None)) is not None:
                waiting.append(self._start_batch(batch, order))
            if not waiting:
                return
            started = time.perf_counter()
            examples = [future.result() for future in waiting.popleft()]
            self.waited += time.perf_counter() - started
            yield examples

    def _start_batch(self, batch: Sequence[int], order: ReadOrder) -> list[Future[Example]]:
        rows = self._images.take(pa.array(batch))
        fetches = plan_fetches(rows, self._source.fetch_options)
        targets, uris = rows[TARGET].to_pylist(), rows[IMAGE_URI].to_pylist()
        return [
            self._pool.submit(self._read_example, fetch, uri, target, order.place_of(int(image), self._seed))
            for image, fetch, uri, target in zip(batch, fetches, uris, targets, strict=True)
        ]

    def _read_example(self, fetch: Fetch, uri: str, target: Any, place: ImagePlace) -> Example:
        decoded = self._decode(_with_tries(fetch, uri), uri, scaled=place.changes is not None)
        return self._make(decoded, target, place)

    def _decode(self, data: bytes, uri: str, *, scaled: bool) -> DecodedImage:
        try:
            return decode(
                data,
                max_pixels=self._source.max_pixels,
                icc=self._source.icc == "convert",
                keep_damaged=self._source.keeps_damaged,
                min_decode_side=self._min_decode_side if scaled else None,
            )
        except ImageError as error:
            raise _gone_error(uri, error) from None


def _with_tries(fetch: Callable[[], bytes], uri: str) -> bytes:
    for _ in range(_TRIES - 1):
        try:
            return fetch()
        except OSError:
            time.sleep(_PAUSE)
        except ImageError as error:
            raise _gone_error(uri, error) from None
    try:
        return fetch()
    except (OSError, ImageError) as error:
        raise _gone_error(uri, error) from None


def _gone_error(uri: str, error: Exception) -> RunError:
    return RunError(
        f"{uri} was there when the training was planned, and cannot be read now: {error}; put it back, and give the "
        "same command again"
    )


def in_slices(positions: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Consecutive parts of at most this size."""
    yield from (positions[start : start + size] for start in range(0, len(positions), size))
