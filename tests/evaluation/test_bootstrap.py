"""Intervals cover what they promise, and agree with drawing images one by one."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.evaluation import bootstrap
from cvbatch.evaluation.bootstrap import (
    DRAWS,
    Estimate,
    Floats,
    Ints,
    WeightedSums,
    draw_estimates,
    interval_bounds,
    resample_metrics,
)


def share_of_last(counts: Ints) -> Floats:
    return counts[:, -1:] / counts.sum(axis=1, keepdims=True)


def test_a_draw_of_groups_is_a_draw_of_images() -> None:
    generator = np.random.default_rng(1)
    images = generator.integers(0, 3, 200)
    one_by_one = np.array([[np.mean(generator.choice(images, 200) == 2)] for _ in range(4000)])
    grouped = resample_metrics(np.bincount(images), share_of_last)
    assert grouped.shape == (DRAWS, 1)
    assert grouped.mean() == pytest.approx(one_by_one.mean(), abs=0.005)
    assert grouped.std() == pytest.approx(one_by_one.std(), rel=0.08)


def test_intervals_cover_the_true_value_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        hits = generator.binomial(400, 0.7)
        (low,), (high,) = interval_bounds(resample_metrics(np.array([400 - hits, hits]), share_of_last, seed=seed))
        covered += low <= 0.7 <= high
    assert 180 <= covered <= 199  # of 200, 95 % are 190


def test_weights_of_a_stream_give_the_interval_of_all_images_together() -> None:
    generator = np.random.default_rng(3)
    hits = (generator.random(2000) < 0.3).astype(np.int64)
    sums = WeightedSums(2)
    for block in np.array_split(np.stack([hits, np.ones_like(hits)], axis=1), 7):
        sums.add_images(block)
    draws = sums.draws[:, :1] / sums.draws[:, 1:]
    expected = resample_metrics(np.bincount(hits), share_of_last)
    assert sums.total.tolist() == [hits.sum(), 2000]
    assert draws.mean() == pytest.approx(hits.mean(), abs=0.002)
    assert draws.std() == pytest.approx(expected.std(), rel=0.1)


def test_weights_do_not_depend_on_the_blocks_of_a_stream() -> None:
    values = np.arange(12.0).reshape(6, 2)
    at_once, in_blocks = WeightedSums(2, draws=5), WeightedSums(2, draws=5)
    at_once.add_images(values)
    in_blocks.add_images(values[:1])
    in_blocks.add_images(values[1:])
    np.testing.assert_allclose(at_once.draws, in_blocks.draws)
    assert np.ptp(at_once.draws[:, 0]) > 0


def test_what_no_draw_defines_has_no_interval() -> None:
    draws = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    undefined, defined = draw_estimates(np.array([np.nan, 2.0]), draws)
    assert undefined.to_json() == {"value": None, "low": None, "high": None}
    assert defined == Estimate(2.0, pytest.approx(1.05), pytest.approx(2.95))


def test_many_groups_are_drawn_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_MOST_NUMBERS", 500_000)
    draws = resample_metrics(np.ones(1000, np.int64), lambda counts: counts.sum(axis=1, keepdims=True) + 0.0)
    assert len(draws) == 500
    assert set(draws.ravel()) == {1000.0}
