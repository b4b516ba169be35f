from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cvbatch.config.train_job import LearningStage
from cvbatch.errors import JobError
from cvbatch.training.torch.optimisers import (
    WeightAverage,
    freeze_others,
    learning_names,
    make_optimizer,
    rate_factor,
    set_learning_mode,
    set_rates,
)

HEAD = ["2.weight", "2.bias"]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.Dropout())


def stage(**options: Any) -> LearningStage:
    return LearningStage(epochs=1, **options)


def test_what_learns_is_the_head_all_or_what_has_a_prefix() -> None:
    module = network()
    assert learning_names(module, HEAD, "head") == set(HEAD)
    assert len(learning_names(module, HEAD, "all")) == 6
    assert learning_names(module, HEAD, ("1.",)) == {"1.weight", "1.bias"}
    with pytest.raises(JobError, match="expected prefixes of parameters, of 0, 1, 2, got 7"):
        learning_names(module, HEAD, ("7",))


def test_what_does_not_learn_is_in_evaluation_mode() -> None:
    module = network()
    freeze_others(module, frozenset(HEAD))
    assert [layer.training for layer in module.children()] == [False, False, True, False]
    assert [parameter.requires_grad for parameter in module.parameters()] == [False] * 4 + [True] * 2
    freeze_others(module, learning_names(module, HEAD, "all"))
    assert all(layer.training for layer in module.children())


def test_batch_norms_may_keep_their_statistics() -> None:
    module = network()
    set_learning_mode(module, "keep")
    assert [layer.training for layer in module.children()] == [True, False, True, True]
    set_learning_mode(module)
    assert all(layer.training for layer in module.children())


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_head_and_backbone_have_their_rates_and_norms_do_not_decay(name: Any) -> None:
    optimizer = make_optimizer(network(), HEAD, stage(rate=0.5, backbone_rate=0.1, weight_decay=0.2, optimizer=name))
    got = {
        (group["part"], group["base_rate"], group["weight_decay"], len(group["params"]))
        for group in optimizer.param_groups
    }
    assert got == {("backbone", 0.1, 0.2, 1), ("backbone", 0.1, 0.0, 3), ("head", 0.5, 0.2, 1), ("head", 0.5, 0.0, 1)}
    set_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25, 0.05}


def test_rates_rise_in_the_warm_up_and_fall_as_a_cosine() -> None:
    cosine = [rate_factor(stage(warmup=0.2), step, 100) for step in range(100)]
    assert cosine[0] < 0.06
    assert cosine[:20] == sorted(cosine[:20])
    assert cosine[20] == 1.0
    assert cosine[20:] == sorted(cosine[20:], reverse=True)
    assert cosine[60] == pytest.approx(0.5)
    assert cosine[99] < 0.01
    assert rate_factor(stage(warmup=0, schedule="constant"), 99, 100) == 1.0


def test_an_average_follows_the_weights() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average = WeightAverage(module, 0.9)
    nn.init.constant_(module.weight, 1.0)
    average.update(module)
    assert float(average.state["weight"]) == pytest.approx(1 - 2 / 11)
    for _ in range(200):
        average.update(module)
    assert float(average.state["weight"]) == pytest.approx(1.0, abs=1e-6)
    other = WeightAverage(module, 0.9)
    other.load({"weight": torch.zeros(1, 1)}, 7)
    assert (float(other.state["weight"]), other.updates) == (0.0, 7)
