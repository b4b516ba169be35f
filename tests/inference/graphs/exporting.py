"""Graphs that torch exports."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from cvbatch.config.job import ModelConfig
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec


def export(module: nn.Module, path: Path, shape: tuple[int, ...] = (2, 3, 64, 64), *, fixed: bool = False) -> Path:
    """Export a module, for any number of images unless it is fixed."""
    dynamic = None if fixed else ({0: torch.export.Dim("batch", min=1, max=64)},)
    images = (torch.zeros(shape),)
    for part in module.modules():
        part.eval()
    torch.onnx.export(module.eval(), images, str(path), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    return path


def resolve(path: Path, **options: object) -> ModelSpec:
    """Resolve a file with options of a job's entry."""
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"onnx:{path}", **options})])
    return spec
