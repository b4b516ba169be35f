"""Networks without weights: they return the brightness of images, and fail on request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest

from cvbatch.images.preprocess import Size, View
from cvbatch.inference import loading
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.predictor import Predictor
from cvbatch.models.spec import ModelSpec

VIEW = View(resize=(8, 8))
SPEC = ModelSpec(
    alias="light", task="classification", kind="python", name="m:f", view=VIEW, categories=("dark", "bright")
)


def bright(image: Image) -> float:
    return float(image.mean()) / 255


class Light:
    """Says how bright images are.

    Args:
        parallel: Whether several threads may run it at once.
        trouble: Called with each batch before it is answered.
        bright: How bright it finds an image.
    """

    def __init__(
        self,
        trouble: Callable[[Sequence[Image]], object] = len,
        *,
        parallel: bool = False,
        bright: Callable[[Image], float] = bright,
    ) -> None:
        self.parallel = parallel
        self._bright = bright
        self.batches: list[int] = []
        self.threads: list[int] = []
        self._trouble = trouble

    def use_threads(self, count: int) -> None:
        self.threads.append(count)

    def batch_key(self, image: Image) -> Hashable:
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        self.batches.append(len(images))
        self._trouble(images)
        scores = [self._bright(image) for image in images]
        return {spec.alias: [np.array([1 - score, score]) for score in scores] for spec in specs}


def predictor(network: Light, monkeypatch: pytest.MonkeyPatch, *, batch_size: int, threads: int = 1) -> Predictor:
    """A predictor of this network alone."""
    monkeypatch.setattr(loading, "load_network", lambda *_, **__: network)
    return Predictor([SPEC], batch_size=batch_size, threads=threads)


def grey(*values: int | None) -> list[Image | None]:
    return [None if value is None else np.full((8, 8, 3), value, np.uint8) for value in values]


def scores(predictor: Predictor, *values: int | None) -> list[float | None]:
    """The brightness that it finds in grey images, null where there is an error."""
    found = predictor.predict_views({VIEW: grey(*values)}, [(8, 8)] * len(values))
    ids, best = (found.columns[f"light_{name}"].to_pylist() for name in ("label_id", "score"))
    return [None if score is None else score if at else 1 - score for at, score in zip(ids, best, strict=True)]
