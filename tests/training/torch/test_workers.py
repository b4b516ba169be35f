"""Two workers with half of each batch do what one does with the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvbatch.engine.training_workers import WorkerPlace, WorkerRequest
from cvbatch.training.fitting import train_model
from cvbatch.training.torch.workers import SharedBatchNorm, WorkerGroup, share_batch_norms
from tests.training.processes import work_in_processes
from tests.training.samples import patterns, train, train_job

REQUEST = WorkerRequest(workers=2, device="cpu", restarts=0, start_timeout=1)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def batch() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def learn_half(place: WorkerPlace) -> dict[str, torch.Tensor]:
    """Gradients and statistics after one step of a worker, plain so that they can be sent."""
    group = WorkerGroup(place.rank, place.workers)
    module = share_batch_norms(small_network(), group).train()
    assert any(isinstance(layer, SharedBatchNorm) for layer in module.modules())
    (module(batch()[place.rank :: 2]).square().sum() / 6).backward()
    group.add_up_gradients(module.parameters())
    gradients = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}  # type: ignore[union-attr]
    return {**gradients, **{name: value.numpy() for name, value in module.named_buffers()}}


def test_gradients_and_batch_norms_are_those_of_the_whole_batch() -> None:
    got = work_in_processes(learn_half, REQUEST, lambda: None, lambda: None, lambda phase: None)
    module = small_network().train()
    (module(batch()).square().sum() / 6).backward()
    expected = {name: parameter.grad for name, parameter in module.named_parameters()}
    expected |= dict(module.named_buffers())
    for name, values in expected.items():
        assert values is not None
        torch.testing.assert_close(torch.as_tensor(got[name]), values, atol=1e-5, rtol=1e-4)


def test_two_workers_follow_the_loss_of_one(tmp_path: Path) -> None:
    """Half of a batch each over 20 steps. Some layers with a batch norm learn, and nothing is random.

    Only the last layers: with all of them one worker does not follow itself, if its first weights differ by 1e-7.
    """
    images = patterns(tmp_path / "images", 16)
    layers = ["_conv_head.", "_bn1.", "_fc."]
    stage = {"layers": layers, "epochs": 5, "rate": 0.01, "backbone_rate": 0.003, "optimizer": "sgd", "warmup": 0}
    parts = {"batch_size": 8, "stages": [stage], "split": {"validation": 0.3}, "image_size": 48}
    one = train(train_job(images, tmp_path / "one", **parts))
    two = train_model(
        train_job(images, tmp_path / "two", **parts, compute={"workers": 2}),
        judged=False,
        run_workers=work_in_processes,
    )
    first, second = ([point for row in report.state.history for point in row["points"]] for report in (one, two))
    assert len(first) == len(second) == 20
    assert max(abs(a[1] - b[1]) for a, b in zip(first, second, strict=True)) < 5e-3
    assert sum(loss for _, loss, _ in first[-5:]) < sum(loss for _, loss, _ in first[:5]) / 2
    assert [row["metric"] for row in one.state.history] == pytest.approx([row["metric"] for row in two.state.history])
