"""The `python:` protocol: what is accepted, mapped back and refused."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cvbatch.config.job import ModelConfig, Task
from cvbatch.errors import ModelError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.predictor import ModelOutputs, Predictor, probe_model
from cvbatch.inference.python.protocol import Detections, Image, Size
from cvbatch.models import resolve
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.masks import decode_mask
from cvbatch.testing import generate_images

JOBS = Path(__file__).parents[3] / "jobs"
IMAGES = generate_images([(100, 50), (60, 80)])


class Model:
    """A model whose attributes and answers a test chooses."""

    def __init__(self, answer: Any = None, **attributes: Any) -> None:
        self.task: Task = "classification"
        self.view = View(resize=40)
        self.categories: Sequence[str | None] = ("a", None, "c")
        self.answer = answer
        vars(self).update(attributes)

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        return self.answer(images, sizes)


def resolved(**options: Any) -> ModelSpec:
    config = ModelConfig(model=f"python:{__name__}:Model", options=options)
    return probe_model(resolve.resolve_models([config])[0])


def run(spec: ModelSpec) -> ModelOutputs:
    views = {spec.view: [apply_view(spec.view, image) for image in IMAGES]}
    return Predictor([spec]).predict_views(views, [image.size for image in IMAGES])


def answers(spec: ModelSpec) -> dict[str, Any]:
    predictions = run(spec)
    assert predictions.errors == [None, None]
    return {name: column.to_pylist() for name, column in predictions.columns.items()}


def test_classification() -> None:
    scores = [[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]]
    columns = answers(resolved(answer=lambda images, sizes: scores[: len(images)]))
    assert columns["classification_label"] == ["c", "a"]
    assert columns["classification_top_label_ids"] == [[2, 0], [0, 2]]


def test_embedding() -> None:
    spec = resolved(task="embedding", categories=(), dimension=2, answer=lambda images, sizes: np.array(sizes))
    assert spec.dimension == 2
    assert answers(spec)["embedding_vector"] == [[100, 50], [60, 80]]


def detections(images: Sequence[Image], sizes: Sequence[Size]) -> list[Detections]:
    """A box over the left half of the view, and one that has no name."""
    found = []
    for image in images:
        height, width = image.shape[:2]
        masks = np.zeros((2, height, width), np.bool_)
        masks[:, :, : width // 2] = True
        found.append(
            Detections(
                boxes=np.array([[0, 0, width, height], [0, 0, width / 2, height]]),
                label_ids=np.array([1, 2]),
                scores=np.array([0.9, 0.5]),
                masks=masks,
                keypoints=np.array([[[width, height, 1.0]], [[width / 2, height, 0.5]]]),
            )
        )
    return found


def test_detection_in_pixels_of_the_original() -> None:
    columns = answers(resolved(task="detection", masks=True, keypoints=True, answer=detections))
    assert columns["detection_boxes"] == [[[0, 0, 50, 50]], [[0, 0, 30, 80]]]
    assert columns["detection_labels"] == [["c"], ["c"]]
    assert columns["detection_keypoints"] == [[[50, 50, 0.5]], [[30, 80, 0.5]]]
    (mask,) = (decode_mask(counts, 50, 100) for counts in columns["detection_masks"][0])
    assert mask[:, :50].all()
    assert not mask[:, 50:].any()


def test_segmentation_is_scaled_by_nearest_neighbour() -> None:
    small = np.array([[0, 1], [2, 2]])
    columns = answers(resolved(task="segmentation", answer=lambda images, sizes: [small] * len(images)))
    assert columns["segmentation_labels"] == [["a", "c"]] * 2
    assert columns["segmentation_areas"] == [[0.25, 0.5]] * 2
    mask = decode_mask(columns["segmentation_masks"][1][0], 80, 60)
    assert mask[:40, :30].all()
    assert mask.sum() == 40 * 30


def test_labels_of_a_frame_are_those_of_the_image_in_it() -> None:
    framed = np.zeros((64, 64), int)
    framed[16:48, 32:], framed[16:48, :32] = 2, 1  # an image of 100 × 50 lies in the middle
    view = View(letterbox=Letterbox(size=(64, 64), centred=True))
    columns = answers(resolved(task="segmentation", view=view, answer=lambda images, sizes: [framed] * len(images)))
    assert columns["segmentation_labels"][0] == ["c"]
    mask = decode_mask(columns["segmentation_masks"][0][0], 50, 100)
    assert mask[:, 50:].all()
    assert mask.sum() == 50 * 50


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"task": "counting"}, "expected a task out of classification, detection, .* got 'counting'"),
        ({"view": (224, 224)}, r"expected view to be a cvbatch\.View"),
        ({"categories": {"1": "a", 1: "b"}}, "expected one name for each label id, got two for one"),
        ({"categories": (None, None)}, "expected categories with at least one name"),
        ({"task": "segmentation", "view": View(crop=(8, 8))}, "choose a view without crop"),
        ({"task": "embedding"}, "expected an attribute dimension"),
    ],
)
def test_attributes_that_contradict_the_protocol(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolved(**attributes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Model", "No module named 'nowhere'"),
        (f"{__name__}:missing", "has no 'missing'"),
        (f"{__name__}:IMAGES", "not callable"),
        ("builtins:dict", r"with task, view, categories and predict\(\)"),
        (f"{__name__}:run", "missing 1 required positional argument"),
    ],
)
def test_factories_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        probe_model(resolve.resolve_models([ModelConfig(model=f"python:{name}")])[0])


def wrong(**changes: Any) -> Any:
    def answer(images: Sequence[Image], sizes: Sequence[Size]) -> list[Detections]:
        kept = {name: getattr(detections(images, sizes)[0], name) for name in Detections.__slots__}
        return [Detections(**(kept | changes))] * len(images)

    return answer


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"answer": lambda images, sizes: [[0.5, 0.5]] * len(images)}, r"expected scores of shape \(1, 3\)"),
        ({"answer": lambda images, sizes: []}, "expected 1 answers, got 0"),
        ({"task": "detection", "answer": wrong(boxes=np.zeros((1, 4)))}, r"expected boxes of shape \(2, 4\)"),
        ({"task": "detection", "answer": wrong(label_ids=np.array([0, 3]))}, "expected label ids below 3, got 3"),
        ({"task": "detection", "masks": True, "answer": wrong(masks=None)}, "expected masks of shape .* got none"),
        ({"task": "segmentation", "answer": lambda images, sizes: [np.full((4, 4), 3)] * len(images)}, "below 3"),
    ],
)
def test_wrong_answers_are_errors_of_their_rows(attributes: dict[str, Any], message: str) -> None:
    predictions = run(resolved(**attributes))
    for error in predictions.errors:
        assert error is not None
        assert (error.stage, error.type) == ("predict", "InvalidOutput")
        assert re.search(message, error.message)


def test_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(JOBS)
    job = yaml.safe_load((JOBS / "own_model.yaml").read_text())
    spec = probe_model(resolve.resolve_models([ModelConfig.model_validate(job["models"][0])])[0])
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    columns = Predictor([spec]).predict_views({spec.view: [black, white]}, [(9, 9), (9, 9)]).columns
    assert columns["light_label"].to_pylist() == ["dark", "bright"]
    assert spec.label_map == "brightness 1"
    assert spec.options == {"dark": 0.2}


def test_a_model_without_torch_needs_none() -> None:
    code = (
        "import sys, numpy; from cvbatch.config.job import ModelConfig; from cvbatch.models import resolve;"
        "from cvbatch.inference.predictor import Predictor, probe_model;"
        "spec = probe_model(resolve.resolve_models([ModelConfig(model='python:brightness:Brightness')])[0]);"
        "Predictor([spec]).predict_views({spec.view: [numpy.zeros((32, 32, 3), numpy.uint8)]}, [(9, 9)]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=JOBS, check=False).returncode == 0
