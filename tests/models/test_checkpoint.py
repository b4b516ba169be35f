"""Own weights: what is read, and whether the categories fit the head."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cvbatch.config import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models import checkpoint, lite0, registry
from cvbatch.models.predictor import probe
from cvbatch.models.spec import ModelSpec
from cvbatch.models.torchvision_network import construct
from cvbatch.testing import generate_images, predict


def save(path: Path, builder: str, num_classes: int) -> str:
    network = (
        lite0.construct(num_classes) if builder == "efficientnet_lite0" else construct(builder, num_classes=num_classes)
    )
    torch.save(network.state_dict(), path)
    return str(path)


def resolved(model: str, path: str, categories: list[str], **options: Any) -> ModelSpec:
    config = ModelConfig(model=model, checkpoint=path, categories=tuple(categories), **options)
    return probe(registry.resolve([config])[0])


@pytest.mark.parametrize(
    ("builder", "outputs", "given", "expected"),
    [
        ("resnet18", 2, ["a", "b"], ("a", "b")),
        ("resnet18", 3, ["a", "b"], (None, "a", "b")),
        ("resnet18", 3, ["background", "a", "b"], (None, "a", "b")),
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
    assert set(labels) <= {"a", "b"}


@pytest.mark.parametrize(
    ("builder", "outputs", "given", "message"),
    [
        ("resnet18", 4, ["a", "b"], r"2 categories ask for a head fc\.\w+ of 2.*, but it is 4"),
        ("ssdlite320_mobilenet_v3_large", 2, ["a", "b"], "2 categories ask for a head head.classification_head"),
        ("resnet18", 2, ["__background__", "a", "b"], "3 categories ask for a head fc"),
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
    network = construct("deeplabv3_mobilenet_v3_large", num_classes=3, aux_loss=True)
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
    with pytest.raises(ModelError, match=r"w\.pth: expected a state dict as torch\.save writes it"):
        checkpoint.read(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 not a zip"])
def test_files_that_are_no_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match="expected a state dict") as caught:
        checkpoint.read(str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)


def test_a_whole_object_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"expected a state dict \(names to tensors\), got list"):
        checkpoint.read(str(tmp_path / "w.pth"))


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "w.safetensors"
    safetensors.save_file(construct("resnet18", num_classes=3).state_dict(), path)
    assert resolved("resnet18", str(path), ["a", "b", "c"]).categories == ("a", "b", "c")


def test_safetensors_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModelError, match=r"pip install 'cvbatch\[safetensors\]'"):
        checkpoint.read(str(tmp_path / "w.safetensors"))
