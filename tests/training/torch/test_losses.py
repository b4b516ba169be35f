"""Each loss against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvbatch.training.torch.losses import LossPart, combine_parts, label_loss, pixel_loss, soft_label_loss
from cvbatch.training.torch.workers import WorkerGroup

DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(0, 3, (7, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1, 0])
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0], np.float32)


def log_shares(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def mean_of(part: LossPart) -> float:
    return float(combine_parts({"only": part}, WorkerGroup()).parts["only"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_label_loss_is_the_formula(smoothing: float, weights: np.ndarray | None) -> None:
    used = np.ones(4, np.float32) if weights is None else weights
    logs = log_shares(LOGITS.astype(np.float64))
    hard = -used[LABELS] * logs[np.arange(7), LABELS]
    soft = -(used * logs).sum(axis=1) / 4
    expected = ((1 - smoothing) * hard + smoothing * soft).sum() / used[LABELS].sum()
    part = label_loss(
        torch.tensor(LOGITS), torch.tensor(LABELS), None if weights is None else torch.tensor(weights), smoothing
    )
    assert mean_of(part) == pytest.approx(expected, abs=1e-5)


def test_soft_label_loss_is_the_formula() -> None:
    shares = DRAW.dirichlet(np.ones(4), 7).astype(np.float32)
    expected = -(shares * log_shares(LOGITS.astype(np.float64))).sum() / 7
    assert mean_of(soft_label_loss(torch.tensor(LOGITS), torch.tensor(shares))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_classes_that_a_teacher_does_not_list_only_the_sum_counts(smoothing: float) -> None:
    shares = DRAW.dirichlet(np.ones(4), 7).astype(np.float32)
    logs = log_shares(LOGITS.astype(np.float64))
    rest = np.log(np.exp(logs[:, 2:]).sum(axis=1))
    each = -(shares[:, :2] * logs[:, :2]).sum(axis=1) - (1 - shares[:, :2].sum(axis=1)) * rest
    weights = WEIGHTS[shares[:, :2].argmax(axis=1)]
    expected = (weights * ((1 - smoothing) * each - smoothing * logs.mean(axis=1))).sum() / weights.sum()
    shares[:, 2:] = np.nan
    part = soft_label_loss(torch.tensor(LOGITS), torch.tensor(shares), torch.tensor(WEIGHTS), smoothing)
    assert mean_of(part) == pytest.approx(expected, abs=1e-5)


def test_a_certain_class_gives_the_loss_and_the_gradient_of_a_label() -> None:
    shares = np.full((7, 4), np.nan, np.float32)
    shares[np.arange(7), LABELS] = 1.0
    soft, hard = (torch.tensor(LOGITS, requires_grad=True) for _ in range(2))
    for logits, part in (
        (soft, soft_label_loss(soft, torch.tensor(shares))),
        (hard, label_loss(hard, torch.tensor(LABELS), None, 0.0)),
    ):
        combine_parts({"only": part}, WorkerGroup()).share.backward()
        assert logits.grad is not None
    assert soft.grad is not None
    assert torch.allclose(soft.grad, hard.grad, atol=1e-6)


def test_parts_are_added_with_their_factors_and_keep_gradients() -> None:
    values = torch.tensor([2.0, 4.0], requires_grad=True)
    parts = {
        "a": LossPart(values[0], torch.tensor(4.0)),
        "b": LossPart(values[1], torch.tensor(2.0), factor=0.5),
    }
    loss = combine_parts(parts, WorkerGroup())
    loss.share.backward()
    assert {name: float(value) for name, value in loss.parts.items()} == {"a": 0.5, "b": 1.0}
    assert float(loss.share.detach()) == 1.5
    assert values.grad is not None
    assert values.grad.tolist() == [0.25, 0.25]


def test_a_part_without_anything_to_count_is_zero() -> None:
    assert mean_of(LossPart(torch.tensor(0.0), torch.tensor(0.0))) == 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_pixel_loss_is_the_mean_over_pixels_that_count(smoothing: float, weights: np.ndarray | None) -> None:
    used = np.ones(4, np.float32) if weights is None else weights
    logits = DRAW.normal(0, 3, (2, 4, 5, 3)).astype(np.float32)
    labels = DRAW.integers(-1, 4, (2, 5, 3))
    kept = labels >= 0
    logs = log_shares(np.moveaxis(logits, 1, -1)[kept].astype(np.float64))
    flat = labels[kept]
    hard = -used[flat] * logs[np.arange(len(flat)), flat]
    soft = -(used * logs).sum(axis=1) / 4
    expected = ((1 - smoothing) * hard + smoothing * soft).sum() / used[flat].sum()
    part = pixel_loss(
        torch.tensor(logits), torch.tensor(labels), None if weights is None else torch.tensor(weights), smoothing
    )
    assert mean_of(part) == pytest.approx(expected, abs=1e-5)
    assert 0 < len(flat) < labels.size
