"""Own weights: what is read, and whether the categories fit the head."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.inference.predictor import probe_model
from cvbatch.inference.torch import checkpoint, efficientnet_lite0, torchvision_models
from cvbatch.inference.torch.torchvision_models import construct_builder
from cvbatch.models import resolve
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images, predict


def save(path: Path, builder: str, num_classes: int) -> str:
    network = (
        efficientnet_lite0.construct_lite0(num_classes)
        if builder == "efficientnet_lite0"
        else construct_builder(builder, num_classes=num_classes)
    )
    torch.save(network.state_dict(), path)
    return str(path)


def resolved(model: str, path: str, categories: list[str], **options: Any) -> ModelSpec:
    config = ModelConfig(model=model, checkpoint=path, categories=tuple(categories), **options)
    return probe_model(resolve.resolve_models([config])[0])


@pytest.mark.parametrize(
    ("builder", "outputs", "given", "expected"),
    [
        ("resnet18", 2, ["a", "b"], ("a", "b")),
        ("resnet18", 3, ["background", "a", "b"], ("background", "a", "b")),
        ("resnet18", 3, ["__background__", "a", "b"], (None, "a", "b")),
        ("efficientnet_lite0", 2, ["a", "b"], ("a", "b")),
        ("lraspp_mobilenet_v3_large", 3, ["a", "b"], (None, "a", "b")),
        ("lraspp_mobilenet_v3_large", 2, ["a", "b"], ("a", "b")),
        ("ssdlite320_mobilenet_v3_large", 3, ["a", "b"], (None, "a", "b")),
        ("ssdlite320_mobilenet_v3_large", 3, ["__background__", "a", "b"], (None, "a", "b")),
    ],
)
def test_the_background_is_found_by_the_head(
    builder: str, outputs: int, given: list[str], expected: tuple[str | None, ...], tmp_path: Path
) -> None:
    spec = resolved(builder, save(tmp_path / "w.pth", builder, outputs), given)
    assert spec.categories == expected
    columns = predict([spec], generate_images([(64, 48)]))
    labels = columns[f"{spec.task}_{'top_' if spec.task == 'classification' else ''}labels"][0]
    assert set(labels) <= {name for name in expected if name}


@pytest.mark.parametrize(
    ("builder", "outputs", "given", "message"),
    [
        ("resnet18", 4, ["a", "b"], r"2 categories need a head fc\.\w+ of 2.*, but it is 4"),
        ("resnet18", 3, ["a", "b"], r"2 categories need a head fc\.weight of 2×512, but it is 3×512"),
        ("efficientnet_lite0", 3, ["a", "b"], r"2 categories need a head _fc\.weight of 2×1280, but it is 3×1280"),
        ("deeplabv3_mobilenet_v3_large", 5, ["a", "b"], "2 categories need a head .* of 2×.*, but it is 5×"),
        ("ssdlite320_mobilenet_v3_large", 2, ["a", "b"], "2 categories need a head head.classification_head"),
        ("resnet18", 2, ["__background__", "a", "b"], "3 categories need a head fc"),
    ],
)
def test_another_number_of_categories_is_an_error(
    builder: str, outputs: int, given: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        resolved(builder, save(tmp_path / "w.pth", builder, outputs), given)


def test_weights_of_another_network_are_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", "mobilenet_v3_small", 2)
    with pytest.raises(ModelError, match=r"w\.pth is not of resnet18: conv1\.weight is missing, expected 64×3×7×7"):
        resolved("resnet18", path, ["a", "b"])


def test_heads_of_training_are_left_out(tmp_path: Path) -> None:
    network = construct_builder("deeplabv3_mobilenet_v3_large", num_classes=3, aux_loss=True)
    state = network.state_dict()
    assert any(key.startswith("aux_classifier") for key in state)
    torch.save({"state_dict": state, "epoch": torch.tensor(3)}, tmp_path / "w.pth")
    spec = resolved("deeplabv3_mobilenet_v3_large", str(tmp_path / "w.pth"), ["a", "b"])
    predict([spec], generate_images([(64, 48)]))


class Attack:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('the file ran code')",))


def test_code_in_a_file_never_runs(tmp_path: Path) -> None:
    torch.save({"weight": Attack()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: expected a state dict .* got a whole module .* never run"):
        checkpoint.read_state_dict(str(tmp_path / "w.pth"))


def test_code_that_would_run_on_this_system_never_runs(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (os.system, ("exit 1",))

    torch.save({"weight": Attack()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="it holds programs, which are never run") as caught:
        checkpoint.read_state_dict(str(tmp_path / "w.pth"))
    assert "weights_only" not in str(caught.value)


def test_a_whole_object_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"expected a state dict \(names to tensors\), got list"):
        checkpoint.read_state_dict(str(tmp_path / "w.pth"))


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "w.safetensors"
    safetensors.save_file(construct_builder("resnet18", num_classes=3).state_dict(), path)
    assert resolved("resnet18", str(path), ["a", "b", "c"]).categories == ("a", "b", "c")


def small(num_classes: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = construct_builder("squeezenet1_1", num_classes=num_classes).state_dict()
    return state


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


class Progress:
    """What a program keeps beside its weights."""


WRONG = {key: value + 1 for key, value in small().items()}
SAVED: dict[str, Any] = {
    "model": {"model": small(), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}},
    "state_dict": {"epoch": 3, "state_dict": small(), "best": 0.5},
    "model_state_dict": {"model_state_dict": small(), "loss": torch.tensor(0.5)},
    "net": {"net": small(), "acc": 91.2},
    "nested": {"checkpoint": {"weights": {"model": small()}}},
    "averages beside": {"ema": WRONG, "model": small()},
    "averages alone": {"state_dict_ema": prefixed(small(), "module."), "n_averaged": torch.tensor(4)},
    "averaged": {**prefixed(small(), "module."), "n_averaged": torch.tensor(4)},
    "parallel": prefixed(small(), "module."),
    "compiled": prefixed(small(), "_orig_mod."),
    "both": prefixed(small(), "module._orig_mod."),
    "lightning": {
        "state_dict": {
            **prefixed(WRONG, "ema_model."),
            **prefixed(small(), "model."),
            "criterion.weight": torch.ones(2),
        }
    },
    "twice the same": {**prefixed(small(), "model."), **prefixed(small(), "criterion.model.")},
    "parameters": {key: torch.nn.Parameter(value) for key, value in small().items()},
    "profiled": {**small(), "total_ops": torch.zeros(1), "features.0.total_params": torch.zeros(1)},
    "half": {key: value.half() for key, value in small().items()},
    "arguments": {"model": small(), "args": argparse.Namespace(lr=0.1), "top": np.float64(0.5), "log": Progress()},
    "legacy": small(),
}


@pytest.mark.parametrize("form", SAVED)
def test_checkpoints_as_people_save_them(form: str, tmp_path: Path) -> None:
    torch.save(SAVED[form], tmp_path / "w.pth", _use_new_zipfile_serialization=form != "legacy")
    spec = resolved("squeezenet1_1", str(tmp_path / "w.pth"), ["a", "b"])
    assert spec.categories == ("a", "b")
    loaded = torchvision_models.load_torchvision(spec).state_dict()
    expected = small()
    assert loaded.keys() == expected.keys()
    tolerance = 1e-3 if form == "half" else 0
    assert all(torch.allclose(loaded[key], expected[key], atol=tolerance) for key in expected)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"state": {}, "param_groups": []}, "expected a state dict of a network, got only the state of an optimizer"),
        ({"optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, "got only the state of an optimizer"),
        ({"epoch": 3, "loss": 0.5}, "got a mapping with epoch, loss"),
        ({}, "got a mapping with nothing in it"),
        (Progress(), r"w\.pth is a whole module .*Progress\), which is never run here: .*model\.state_dict\(\)"),
        ({"model": Progress()}, r"got a whole module .*Progress\), .*under model"),
        ({**small(), "extra.weight": torch.ones(2)}, r"is not of squeezenet1_1, which has no extra\.weight"),
        ({"last": small(), "best": WRONG}, r"w\.pth holds two networks of this kind, under last and best: save"),
        ({**prefixed(WRONG, "a."), **prefixed(small(), "b.c.")}, r"two networks of this kind, under a and b\.c: save"),
        ({"ema": small(), "swa": WRONG}, "holds two networks of this kind, under ema and swa: save"),
        ({**small(), "classifier.1.bias": torch.ones(2, dtype=torch.int8)}, r"classifier\.1\.bias holds int8: save"),
        ({**small(), "classifier.1.bias": torch.ones(2, device="meta")}, r"classifier\.1\.bias holds no numbers"),
        ({**small(), "classifier.1.bias": torch.tensor([1, float("nan")])}, r"classifier\.1\.bias has NaN or infinity"),
    ],
)
def test_checkpoints_that_cannot_be_used_say_what_they_are(saved: Any, message: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message):
        resolved("squeezenet1_1", str(tmp_path / "w.pth"), ["a", "b"])


def test_a_larger_network_of_the_same_kind_is_not_cut_to_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", "resnet34", 2)
    with pytest.raises(ModelError, match=r"is not of resnet18, which has no layer1\.2\.conv1\.weight and \d+ more"):
        resolved("resnet18", path, ["a", "b"])


def test_a_background_that_the_job_asks_for(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", "squeezenet1_1", 3)
    assert resolved("squeezenet1_1", path, ["a", "b"], background=True).categories == (None, "a", "b")
    given = ["background", "a", "b"]
    assert resolved("squeezenet1_1", path, given, background=True).categories == (None, "a", "b")


def test_categories_by_label_id(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", "squeezenet1_1", 4)
    config = ModelConfig.model_validate({"model": "squeezenet1_1", "checkpoint": path, "categories": {0: "a", 3: "d"}})
    assert probe_model(resolve.resolve_models([config])[0]).categories == ("a", None, None, "d")
    again = ModelConfig.model_validate(config.model_dump(mode="json", by_alias=True))
    assert again.categories == config.categories
