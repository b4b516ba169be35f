"""Every kind of model does what runs expect of it: one small model of each goes through the same check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cvbatch.config.job import ModelConfig
from cvbatch.models.backends import BACKENDS
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import check_spec, seeded_checkpoint
from tests.rigs.graphs import write_constant_graph
from tests.rigs.programs import save_program
from tests.rigs.timm_models import save_timm_model
from tests.rigs.transformers_models import save_vit

NAMES = ["cat", "dog", "owl"]
KEYS = {"categories": NAMES, "options": {"preprocess": "unit"}}
Entry = Mapping[str, Any]


def onnx_entry(folder: Path) -> Entry:
    logits = np.array([[0, 2, 1]], np.float32)
    return {"model": f"onnx:{write_constant_graph(folder / 'own.onnx', {'logits': logits})}", **KEYS}


def program_entry(folder: Path) -> Entry:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 3, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return {"model": f"program:{save_program(module, folder / 'own.pt2')}", **KEYS}


ENTRIES: dict[str, Callable[[Path], Entry]] = {
    "embedded": lambda _: {"model": "efficientnet_lite0"},
    "nanodet": lambda _: {"model": "nanodet_g"},
    "torchvision": lambda folder: seeded_checkpoint("squeezenet1_1", folder),
    "python": lambda _: {"model": "python:jobs.brightness:Brightness"},
    "onnx": onnx_entry,
    "transformers": lambda folder: {"model": f"hf:{save_vit(folder / 'vit')}"},
    "timm": lambda folder: {"model": f"timm:{save_timm_model(folder / 'vit', label_names=NAMES)}"},
    "program": program_entry,
}


def resolved(kind: str, folder: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({**ENTRIES[kind](folder), **options})])
    return spec


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_model_of_each_kind_passes(kind: str, tmp_path: Path) -> None:
    spec = resolved(kind, tmp_path)
    assert spec.kind == kind
    assert check_spec(spec).gflops != 0


def test_no_kind_is_forgotten() -> None:
    trained = {"trained"}  # it gives way to the kinds of its parts
    assert {backend.name for backend in BACKENDS.own_rows()} - trained == ENTRIES.keys()


@pytest.mark.parametrize("fault", ["known too early", "unknown setting"])
def test_a_kind_with_a_fault_does_not_pass(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(BACKENDS["timm"])
    if fault == "known too early":
        monkeypatch.setattr(kind, "known_before_probe", lambda self, spec, data: dict(data))
        words = "known_before_probe has what is known only after loading"
    else:
        monkeypatch.setattr(kind, "applicable_settings", lambda self, spec: frozenset({"speed"}))
        words = "there are no settings speed"
    with pytest.raises(AssertionError, match=words):
        check_spec(resolved("timm", tmp_path))
