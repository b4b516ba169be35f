"""Tiny models of timm with random weights, saved as timm saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

TINY = "test_vit"
"""One of timm's own for tests: 0.4 million parameters."""


def make_timm_model(name: str = TINY, *, seed: int = 0, **arguments: Any) -> nn.Module:
    """A network with weights so large that its answers vary from image to image."""
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(name, **arguments).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
            elif not key.endswith("weight"):
                parameter.normal_(0, 0.1)
    return model


def save_timm_model(folder: Path, name: str = TINY, *, seed: int = 0, **arguments: Any) -> Path:
    """Save a network with its description and safetensors."""
    config: dict[str, Any] = {}
    if (names := arguments.pop("label_names", None)) is not None:
        config["label_names"] = names
        arguments["num_classes"] = len(names)
    save_for_hf(make_timm_model(name, seed=seed, **arguments), folder, model_config=config, safe_serialization=True)
    return folder
