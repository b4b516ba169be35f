"""Distances of gradients without the gradients, and a learning curve that `mixed` must win."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from cvbatch.output.store import LocalStore
from cvbatch.sampling.choose import choose_samples
from cvbatch.sampling.gradients import GradientDistances, weights_of_scores
from tests.samples import commit_rows, planned, spec

SEEDS = 10
POINTS = (50, 100, 200)
FIRST = 20
POOL = 900
MODELS = (
    spec(categories=tuple("0123456789")),
    spec("embedding", "embedding", dimension=64, categories=()),
)


def test_distances_equal_those_of_whole_gradients() -> None:
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.ones(6), 40)
    ids = np.argsort(-scores, axis=1)
    vectors = random.normal(size=(40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    residuals = scores.copy()
    residuals[np.arange(40), ids[:, 0]] -= 1
    gradients = np.einsum("rc,rd->rcd", residuals, vectors).reshape(40, -1)
    distances = GradientDistances(weights_of_scores(ids, np.take_along_axis(scores, ids, axis=1)), vectors)
    assert distances.nearest == pytest.approx(np.square(gradients).sum(axis=1), abs=1e-6)
    for index in (3, 17, 8):
        distances.add(index)
    expected = np.square(gradients[:, None] - gradients[[3, 17, 8]]).sum(axis=2).min(axis=1)
    assert distances.nearest == pytest.approx(np.minimum(expected, np.square(gradients).sum(axis=1)), abs=1e-5)


@pytest.mark.slow
def test_mixed_beats_chance_on_digits(tmp_path: Path) -> None:
    """In the mean of ten seeds, at 50, 100 and 200 labels."""
    plan = Path(planned(tmp_path, POOL, *MODELS)[0].root)
    means = {}
    for by in ("random", "mixed"):
        curves = [list(learning_curve(by, seed, plan, tmp_path / by / str(seed))) for seed in range(SEEDS)]
        means[by] = np.mean(curves, axis=0)
    assert (means["mixed"] > means["random"] + 0.005).all(), means


def learning_curve(by: str, seed: int, plan: Path, folder: Path) -> Iterator[float]:
    """Accuracy on images that are never labelled, whenever a round of labelling is done."""
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(digits))
    pool, test = order[:POOL], order[POOL:]
    labelled = list(range(FIRST))
    for number, target in enumerate(POINTS):
        model = train(pixels[pool][labelled], digits[pool][labelled])
        output = write_run(shutil.copytree(plan, folder / str(number)), model, pixels[pool])
        options: dict[str, Any] = {} if by == "random" else {"max_cosine": 0.99}
        choice = choose_samples(output, target - len(labelled), by=by, seed=seed, exclude=labelled, **options)
        labelled += choice.table["row_id"].to_pylist()
        assert len(set(labelled)) == target
        yield train(pixels[pool][labelled], digits[pool][labelled]).score(pixels[test] / 16, digits[test])


def train(pixels: npt.NDArray[np.float64], digits: npt.NDArray[np.int64]) -> LogisticRegression:
    return LogisticRegression(C=10, tol=0.01, max_iter=1000).fit(pixels / 16, digits)


def write_run(folder: Path, model: LogisticRegression, pixels: npt.NDArray[np.float64]) -> str:
    """A run of this model, with its pixels as the embedding."""
    scores = np.zeros((len(pixels), 10))
    scores[:, model.classes_] = model.predict_proba(pixels / 16)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    columns = {
        "classification_top_label_ids": best.tolist(),
        "classification_top_scores": np.take_along_axis(scores, best, axis=1).tolist(),
        "embedding_vector": pixels.tolist(),
    }
    commit_rows(LocalStore(str(folder)), len(pixels), *MODELS, **columns)
    return str(folder)
