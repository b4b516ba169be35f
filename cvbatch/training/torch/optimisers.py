"""What learns in a stage, how fast, and how rates change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from cvbatch.config.train_job import Layers, LearningStage
from cvbatch.errors import JobError

_BACKBONE_SHARE: Final = 0.1
"""Default rate of the backbone, as a share of that of the head."""
HEAD: Final = "head"
BACKBONE: Final = "backbone"


def learning_names(module: nn.Module, head: Iterable[str], layers: Layers) -> frozenset[str]:
    """Names of the parameters that learn in a stage.

    Args:
        module: The network.
        head: Names of the parameters of its head.
        layers: As in the stage.

    Raises:
        JobError: If no parameter has one of the prefixes.
    """
    names = [name for name, _ in module.named_parameters()]
    if layers == "all":
        return frozenset(names)
    if layers == "head":
        return frozenset(head)
    chosen = frozenset(name for name in names if name.startswith(tuple(layers)))
    if not chosen:
        tops = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
        raise JobError(f"layers: expected prefixes of parameters, of {tops}, got {', '.join(layers)}")
    return chosen


def freeze_others(module: nn.Module, learning: frozenset[str]) -> None:
    """Let only these parameters learn; what does not learn is in evaluation mode, with its batch norms and dropout.

    Args:
        module: Changed in place.
        learning: Names of parameters.
    """
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in learning)
    set_learning_mode(module)


def set_learning_mode(module: nn.Module, batch_norms: str = "learn") -> None:
    """Put layers that learn into training mode, and all others into evaluation mode.

    Args:
        module: Changed in place.
        batch_norms: As in the stage; those that `keep` their statistics are in evaluation mode, too.
    """
    _set_modes(module)
    if batch_norms == "keep":
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                layer.training = False


def _set_modes(module: nn.Module) -> None:
    everything = all(parameter.requires_grad for parameter in module.parameters())
    module.train(everything)
    if everything:
        return
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if own and any(parameter.requires_grad for parameter in own):
            layer.training = True


def make_optimizer(module: nn.Module, head: Iterable[str], stage: LearningStage) -> torch.optim.Optimizer:
    """Make the optimizer of a stage; its groups have `base_rate` and the `part` of the network.

    Args:
        module: With the parameters that learn.
        head: Names of the parameters of its head.
        stage: Says how.
    """
    head = frozenset(head)
    backbone_rate = stage.rate * _BACKBONE_SHARE if stage.backbone_rate is None else stage.backbone_rate
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((HEAD if name in head else BACKBONE, parameter.dim() > 1), []).append(parameter)
    listed: list[dict[str, Any]] = [
        {
            "params": parameters,
            "part": part,
            "base_rate": stage.rate if part == HEAD else backbone_rate,
            "lr": stage.rate if part == HEAD else backbone_rate,
            "weight_decay": stage.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
    return _OPTIMIZERS[stage.optimizer](listed, stage)


def _make_sgd(groups: list[dict[str, Any]], stage: LearningStage) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=stage.rate, momentum=stage.momentum, nesterov=stage.momentum > 0)


def _make_adamw(groups: list[dict[str, Any]], stage: LearningStage) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=stage.rate)


_OPTIMIZERS: Final = {"sgd": _make_sgd, "adamw": _make_adamw}


def rate_factor(stage: LearningStage, step: int, steps: int) -> float:
    """Factor of the learning rates at a step: rising in the warm-up, then as a cosine to zero, or constant.

    Args:
        stage: Says how.
        step: From 0 on, in the stage.
        steps: Of the stage.
    """
    warm = stage.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    if stage.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the rates of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


class WeightAverage:
    """Exponential moving average of weights: average ← d · average + (1 − d) · weights, with a smaller d at first.

    Args:
        module: The network; the average starts with its weights.
        decay: d
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        self.state = {key: value.detach().clone() for key, value in module.state_dict().items()}

    def update(self, module: nn.Module) -> None:
        """Add the weights after a step."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value.detach(), 1 - decay)
            else:
                self.state[key].copy_(value)

    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Continue an average."""
        for key, value in state.items():
            self.state[key].copy_(value)
        self.updates = updates
