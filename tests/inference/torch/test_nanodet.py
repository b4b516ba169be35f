"""The embedded detector: its formulas, what it sees on real photos, and own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.ops import batched_nms

from cvbatch.config.job import ModelConfig
from cvbatch.config.tiles import TilesConfig
from cvbatch.errors import ModelError
from cvbatch.inference.torch import nanodet
from cvbatch.inference.torch.nanodet_boxes import NanoDetOutputs
from cvbatch.inference.torch.nanodet_loading import complete_spec, load_nanodet
from cvbatch.models import resolve
from cvbatch.models.backends.nanodet import NANODET_G
from cvbatch.testing import predict

data = pytest.importorskip("skimage.data", reason="real photos come with the extra `demo`")

CPU = torch.device("cpu")


def photo(name: str) -> Image.Image:
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def test_boxes_are_expected_distances_from_the_centres_of_cells() -> None:
    logits = torch.randn(3, 4, 11, generator=torch.Generator().manual_seed(0))
    centres, strides = nanodet.cell_centres(64, 96, CPU)
    assert centres.shape == (8 * 12 + 4 * 6 + 2 * 3, 2)
    cells = [13, 97, 125]
    assert centres[cells].tolist() == [[12.0, 12.0], [24.0, 8.0], [80.0, 48.0]]
    assert strides[cells].tolist() == [8, 16, 32]
    values = np.exp(logits.numpy().astype(np.float64))
    sides = (values / values.sum(axis=2, keepdims=True) * np.arange(11)).sum(axis=2) * [[8], [16], [32]]
    expected = np.concatenate(
        [[[12, 12], [24, 8], [80, 48]] - sides[:, :2], [[12, 12], [24, 8], [80, 48]] + sides[:, 2:]], 1
    )
    boxes = nanodet.expected_boxes(logits, centres[cells], strides[cells])
    np.testing.assert_allclose(boxes.numpy(), expected, atol=1e-4)


def test_the_cat_the_cup_and_the_astronaut_are_detected_where_they_are() -> None:
    specs = resolve.resolve_models([ModelConfig(model=NANODET_G)])
    columns = predict(specs, [photo("chelsea"), photo("coffee"), photo("astronaut")])
    expected: list[tuple[str, list[float]]] = [
        ("cat", [0, 0, 440, 300]),
        ("cup", [165, 25, 420, 260]),
        ("person", [15, 10, 370, 512]),
    ]
    for (label, box), labels, boxes, scores in zip(
        expected, columns["detection_labels"], columns["detection_boxes"], columns["detection_scores"], strict=True
    ):
        position = labels.index(label)
        assert scores[position] > 0.3
        assert _overlap(np.array(boxes[position]), np.array(box)) > 0.7
        assert scores == sorted(scores, reverse=True)


def test_an_image_gives_the_same_boxes_alone_and_in_a_batch() -> None:
    specs = resolve.resolve_models([ModelConfig(model=NANODET_G, score_threshold=0.3)])
    photos = [photo("chelsea"), photo("coffee"), photo("astronaut").resize((40, 700))]
    together = predict(specs, photos)["detection_boxes"]
    alone = [predict(specs, [image])["detection_boxes"][0] for image in photos]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)


def test_small_objects_of_a_large_picture_are_found_in_tiles() -> None:
    mosaic, expected = Image.new("RGB", (2000, 1400), (114, 114, 114)), list[tuple[str, npt.NDArray[np.float64]]]()
    plain, tiled = (
        resolve.resolve_models([ModelConfig(model=NANODET_G, score_threshold=0.3, tiles=tiles)])
        for tiles in (None, TilesConfig(size=800, overlap=0.65))
    )
    for name, place in {"chelsea": (100, 90), "coffee": (1300, 80), "astronaut": (700, 800)}.items():
        mosaic.paste(photo(name), place)
        columns = predict(plain, [photo(name)])
        expected.append((columns["detection_labels"][0][0], columns["detection_boxes"][0][0] + np.tile(place, 2)))
    columns = predict(tiled, [mosaic])
    found = list(zip(columns["detection_labels"][0], columns["detection_boxes"][0], strict=True))
    for label, box in expected:
        assert max(_overlap(box, np.array(other)) for name, other in found if name == label) > 0.7


def test_a_low_threshold_keeps_at_most_a_hundred_boxes() -> None:
    specs = resolve.resolve_models([ModelConfig(model=NANODET_G, score_threshold=0.0)])
    scores = predict(specs, [photo("coffee")])["detection_scores"][0]
    assert len(scores) == 100


def test_of_boxes_that_overlap_only_the_best_of_a_class_stays() -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model=NANODET_G)])
    cells = 8 * 8 + 4 * 4 + 2 * 2
    logits = torch.full((1, cells, 80), -20.0)
    logits[0, 9, 0], logits[0, 10, 0], logits[0, 10, 5], logits[0, 60, 0] = 3.0, 2.0, 1.0, 0.5
    distances = torch.zeros(1, cells, 4, 11)
    distances[..., 3] = 50.0  # three strides to each side
    (answer,) = NanoDetOutputs(logits, distances, (64, 64), [(416, 416)]).boxes(spec)
    assert answer.label_ids.tolist() == [0, 5, 0]
    np.testing.assert_allclose(answer.scores, torch.tensor([3.0, 1.0, 0.5]).sigmoid().numpy(), atol=1e-6)
    np.testing.assert_allclose(answer.boxes[0], [0, 0, 36, 36], atol=1e-3)


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.3, 0.9, 1.0])
def test_boxes_are_those_of_torchvisions_suppression_of_all_candidates(threshold: float) -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model=NANODET_G, score_threshold=threshold)])
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 336, 80, generator=random) - 2.5
    logits[0, 3, 4] = 40.0  # its probability is exactly 1
    distances = 4 * torch.randn(1, 336, 4, 11, generator=random)
    (answer,) = NanoDetOutputs(logits, distances, (128, 128), [(4000, 4000)]).boxes(spec)
    scores = logits[0].sigmoid()
    cells, classes = (scores >= threshold).nonzero(as_tuple=True)
    best = scores[cells, classes].argsort(descending=True)[:3000]
    cells, classes = cells[best], classes[best]
    boxes = nanodet.expected_boxes(distances[0, cells], *(part[cells] for part in nanodet.cell_centres(128, 128, CPU)))
    boxes = (boxes * 4000 / 416).clip(0, 4000)
    kept = batched_nms(boxes.double(), scores[cells, classes].double(), classes, 0.6)[:100]
    assert answer.label_ids.tolist() == classes[kept].tolist()
    np.testing.assert_allclose(answer.boxes, boxes[kept].numpy(), atol=0.01)
    np.testing.assert_allclose(answer.scores, scores[cells, classes][kept].numpy(), atol=1e-6)


def test_scores_that_are_no_numbers_are_an_error() -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model=NANODET_G)])
    outputs = NanoDetOutputs(torch.full((1, 84, 80), torch.nan), torch.zeros(1, 84, 4, 11), (64, 64), [(9, 9)])
    with pytest.raises(Exception, match="expected finite scores"):
        outputs.boxes(spec)


def test_own_weights_have_own_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nanodet.NanoDet(3)
    save_file(module.state_dict(), tmp_path / "stones.safetensors")
    config = {"model": NANODET_G, "checkpoint": str(tmp_path / "stones.safetensors"), "score_threshold": 0.0}
    (spec,) = resolve.resolve_models([ModelConfig(**config, categories=["stone", "animal", "car"])])
    spec = complete_spec(spec)
    assert spec.categories == (None, "stone", "animal", "car")
    assert load_nanodet(spec).num_classes == 3
    labels = predict([spec], [photo("coffee")])["detection_labels"][0]
    assert set(labels) <= {"stone", "animal", "car"}
    assert labels
    (wrong,) = resolve.resolve_models([ModelConfig(**config, categories=["stone"])])
    with pytest.raises(ModelError, match="give one name for each of its outputs"):
        complete_spec(wrong)


def test_its_weights_cannot_be_random() -> None:
    with pytest.raises(ModelError, match="comes with its weights"):
        resolve.resolve_models([ModelConfig(model=NANODET_G, weights=None)])


def _overlap(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    return float(shared / (sum(areas) - shared))
