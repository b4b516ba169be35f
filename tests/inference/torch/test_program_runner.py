"""Programs through the product: the numbers of the modules that they were exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models as zoo

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.inference.loading import probe_model
from cvbatch.inference.torch.program_runner import ProgramRunner
from cvbatch.models.program.archive import ProgramArchive
from cvbatch.models.program.facts import read_graph
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images, predict, seeded_checkpoint
from tests.rigs.programs import MANY, change_json, change_program, save_program

IMAGES = generate_images()


def resolve(path: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"program:{path}", **options})])
    return probe_model(spec)


class Shapes(nn.Module):
    """Lengths that depend on the input, several outputs, constants, a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = images.shape[-2:]
        features = self.convolution(images) * self.scale
        with torch.no_grad():
            small = functional.interpolate(features, size=(height // 2, width // 2), mode="bilinear")
        first, second = small.split([1, 3], dim=1)
        rows = torch.arange(height // 2, device=images.device, dtype=torch.float32)[:, None]
        best, order = second.max(dim=1)
        return torch.cat([first * rows, second], dim=1), best.half(), order + torch.tensor(7)


class Suppressed(nn.Module):
    """One image: boxes that a library of operations has suppressed."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        base = images.mean() * 0 + torch.tensor([[2.0, 2, 30, 40], [3, 2, 31, 40], [40, 40, 60, 60]])
        scores = torch.tensor([0.9, 0.8, 0.7])
        kept = torchvision.ops.nms(base, scores, 0.5)
        return base[kept][None], scores[kept][None], torch.zeros_like(kept)[None]


MODULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "resnet": (lambda: zoo.resnet18(num_classes=5), {}),
    "mobilenet": (lambda: zoo.mobilenet_v3_small(num_classes=5), {}),
    "attention": (lambda: zoo.VisionTransformer(64, 16, 2, 2, 32, 40, num_classes=5), {}),
    "windows": (lambda: zoo.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=5), {}),
    "lengths": (
        Shapes,
        {"dynamic": {0: MANY, 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}},
    ),
    "fixed": (lambda: zoo.squeezenet1_1(num_classes=5), {"dynamic": {}}),
}


SLOW = ("mobilenet", "attention", "windows")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in MODULES]
)
def test_a_program_gives_the_numbers_of_its_module(kind: str, tmp_path: Path) -> None:
    make, options = MODULES[kind]
    torch.manual_seed(0)
    module = make()
    path = save_program(module, tmp_path / "own.pt2", **options)
    with ProgramArchive(path, "own.pt2") as archive:
        runner = ProgramRunner(archive, "cpu")
    for shape in [(2, 3, 64, 64), (5, 3, 96, 128)] if kind == "lengths" else [(2, 3, 64, 64)]:
        images = torch.randn(shape)
        with torch.inference_mode():
            expected, found = module(images), runner(images)
        for mine, own in zip(found, expected if isinstance(expected, tuple) else [expected], strict=True):
            torch.testing.assert_close(mine, own, rtol=1e-4, atol=1e-5)
            assert mine.dtype == own.dtype


@pytest.mark.slow
def test_a_network_of_torchvision_and_its_program_agree(tmp_path: Path) -> None:
    entry = seeded_checkpoint("squeezenet1_1", tmp_path)
    (twin,) = resolve_models([ModelConfig.model_validate(entry)])
    module = zoo.get_model("squeezenet1_1", num_classes=len(entry["categories"]))
    module.load_state_dict(torch.load(entry["checkpoint"], weights_only=True))
    path = save_program(module, tmp_path / "twin.pt2", (2, 3, 224, 224))
    spec = resolve(path, categories=entry["categories"], options={"preprocess": "imagenet"})
    assert (spec.view, spec.gflops) == (twin.view, pytest.approx(twin.gflops, rel=0.05))
    expected, found = predict([twin], IMAGES), predict([spec], IMAGES)
    assert found["classification_label"] == expected["classification_label"]
    np.testing.assert_allclose(found["classification_score"], expected["classification_score"], atol=1e-4)


def test_a_fixed_number_of_images_is_looped_and_features_are_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    options = {"task": "embedding", "options": {"preprocess": "unit", "fit": "stretch"}}
    fixed = resolve(save_program(module, tmp_path / "fixed.pt2", (3, 3, 32, 32), dynamic={}), **options)
    free = resolve(save_program(module, tmp_path / "free.pt2", (2, 3, 32, 32)), **options)
    assert (fixed.options["batch"], free.options["batch"], fixed.dimension) == (3, None, 8)
    vectors = [np.stack(predict([spec], IMAGES)["embedding_vector"]) for spec in (fixed, free)]
    np.testing.assert_allclose(*vectors, atol=1e-6)


def _output_names_of(path: Path) -> list[str]:
    with ProgramArchive(path, path.name) as archive:
        return [output.name for output in read_graph(archive).outputs]


@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated:FutureWarning")
def test_boxes_of_one_image_at_a_time(tmp_path: Path) -> None:
    path = save_program(Suppressed(), tmp_path / "boxes.pt2", (1, 3, 64, 64), dynamic={})
    outputs = dict(zip(("boxes", "scores", "labels"), _output_names_of(path), strict=True))
    options = {"preprocess": "unit", "head": "boxes", "outputs": outputs}
    spec = resolve(path, task="detection", categories=["cat"], options=options)
    found = predict([spec], IMAGES[:2])
    assert [len(scores) for scores in found["detection_scores"]] == [2, 2]


def test_pixels_of_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 4, 1)
    path = save_program(module, tmp_path / "areas.pt2", (2, 3, 32, 48), extra={"names": "['a', 'b', 'c', 'd']"})
    spec = resolve(path, task="segmentation", options={"preprocess": "imagenet"})
    assert spec.categories == tuple("abcd"), "what extra_files say is read"
    assert len(predict([spec], IMAGES)["segmentation_labels"]) == len(IMAGES)


def test_bytes_as_input(tmp_path: Path) -> None:
    class Bytes(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.float().mean(dim=(1, 2))

    path = save_program(Bytes(), tmp_path / "bytes.pt2", (2, 16, 16, 3), dtype=torch.uint8)
    spec = resolve(path, task="embedding", options={"fit": "stretch"})
    (vector,) = predict([spec], IMAGES[:1])["embedding_vector"]
    assert 1 < np.mean(vector) < 255


def test_what_fails_is_said_in_one_line(tmp_path: Path) -> None:
    path = save_program(nn.Sequential(nn.Conv2d(3, 4, 64), nn.Flatten()), tmp_path / "own.pt2")
    options = {"categories": list("abcd"), "options": {"preprocess": "unit"}}

    def break_shape(model: Any) -> None:
        for size in model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][2:]:
            size["as_int"] = 32

    broken = change_program(path, tmp_path / "broken.pt2", change_json("models/model.json", break_shape))
    with pytest.raises(ModelError, match=r"program:broken\.pt2: fails with 32 × 32 pixels: .*[Kk]ernel size") as caught:
        resolve(broken, **options)
    assert "\n" not in str(caught.value)

    def rename_operation(model: Any) -> None:
        model["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.conv9d.default"

    unknown = change_program(path, tmp_path / "unknown.pt2", change_json("models/model.json", rename_operation))
    with pytest.raises(ModelError, match=r"the installed torch .* has no torch\.ops\.aten\.conv9d\.default"):
        resolve(unknown, **options)
