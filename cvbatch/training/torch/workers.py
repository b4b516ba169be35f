"""The workers of a training: sums over all of them, and batch norms that see the whole batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn


class WorkerGroup:
    """All workers of a training; with one worker nothing is exchanged.

    Args:
        rank: Number of this worker.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def add_up(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all workers; each of them calls this."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, content: Any) -> list[Any]:
        """What each worker has, in their order; each of them calls this."""
        if self.size == 1:
            return [content]
        contents: list[Any] = [None] * self.size
        distributed.all_gather_object(contents, content)
        return contents

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of each worker by their sum."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


class _Sum(torch.autograd.Function):
    """Sum over all workers, with its gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm over the images of all workers, as `torch.nn.SyncBatchNorm`, which needs GPUs."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        if not self.training:
            return super().forward(images)
        values = images.float()
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=values.device)
        sums: Tensor = _Sum.apply(torch.cat([values.sum(dim=(0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        # not the mean of squares less the square of the mean, which loses most digits where the variance is small
        squares: Tensor = _Sum.apply((values - mean[:, None, None]).square().sum(dim=(0, 2, 3)))
        variance = squares / total
        self._remember(mean.detach(), variance.detach(), float(total))
        scale = torch.rsqrt(variance + self.eps)
        normal: Tensor = (values - mean[:, None, None]) * scale[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(1.0, count - 1), momentum)


def share_batch_norms(module: nn.Module, group: WorkerGroup) -> nn.Module:
    """Let the batch norms of a network see the images of all workers; its parameters keep their names.

    Args:
        module: Changed in place.
        group: The workers; with one of them nothing changes.
    """
    if group.size > 1:
        for layer in module.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = SharedBatchNorm
    return module
