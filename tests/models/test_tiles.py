"""The option `tiles`: which models have it, and what is wrong with other values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.config.job_file import build_job
from cvbatch.errors import JobError, ModelError
from cvbatch.images.preprocess import View
from cvbatch.images.tiles import Tiles
from cvbatch.inference.loading import probe_model
from cvbatch.models.backends import backend_of
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec


def resolved(**options: Any) -> ModelSpec:
    return resolve_models([ModelConfig.model_validate(options)], fetch=False)[0]


def test_models_of_boxes_and_masks_have_tiles() -> None:
    assert resolved(model="nanodet_g").view.tiles is None
    assert resolved(model="nanodet_g", tiles={}).view.tiles == Tiles()
    asked = {"size": 640, "overlap": 0.25, "whole": True, "merge": "wbf"}
    assert resolved(model="nanodet_g", tiles=asked).view.tiles == Tiles(**asked)
    spec = resolved(task="segmentation", tiles={"size": 640})
    assert spec.view.tiles == Tiles(size=640)
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "classification", "tiles": {}}, "tiles: belongs to detection, but efficientnet_lite0 does classif"),
        ({"task": "embedding", "tiles": {}}, "tiles: belongs to detection, but efficientnet_lite0 does embedding"),
        (
            {"task": "segmentation", "tiles": {"whole": True}},
            "tiles.whole: is about boxes, and efficientnet_lite0 does segmentation here: leave it out of tiles",
        ),
        ({"task": "segmentation", "tiles": {"merge": "wbf"}}, "tiles.merge: is about boxes"),
    ],
)
def test_other_tasks_have_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolved(**options)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ({"overlap": 1}, "models.0.tiles.overlap: expected at most 0.9, got 1"),
        ({"overlap": -0.1}, "models.0.tiles.overlap: expected at least 0.0, got -0.1"),
        ({"size": 16}, "models.0.tiles.size: expected at least 32, got 16"),
        ({"size": 10_000}, "models.0.tiles.size: expected at most 8192, got 10000"),
        ({"size": "large"}, "models.0.tiles.size: expected a whole number, got 'large'"),
        ({"merge": "best"}, "models.0.tiles.merge: expected 'nms' or 'wbf', got 'best'"),
        ({"sise": 64}, "models.0.tiles.sise: unknown key; did you mean 'size'?"),
        (1024, "models.0.tiles: expected a mapping such as {size: 1024, overlap: 0.2}, got 1024"),
    ],
)
def test_wrong_values_are_named(tiles: object, message: str) -> None:
    data = {"source": {"uri": "in"}, "output": {"uri": "out"}, "models": [{"model": "nanodet_g", "tiles": tiles}]}
    with pytest.raises(JobError) as caught:
        build_job(data, ())
    assert str(caught.value) == message


def test_tiles_change_the_run_and_their_absence_does_not() -> None:
    data = {"source": {"uri": "in"}, "output": {"uri": "out"}, "models": [{"model": "nanodet_g"}]}
    plain = build_job(data, ()).identity()
    tiled = build_job(data, ["models.0.tiles.size=512"])
    assert "tiles" not in plain["models"][0]
    assert tiled.identity()["models"][0]["tiles"] == {"size": 512, "overlap": 0.2, "whole": False, "merge": "nms"}
    assert tiled.with_defaults(plain)["models"][0]["tiles"] is None


def test_tiles_of_own_models_are_compared_before_they_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compared_models.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    plain, tiled = (
        resolved(model="python:compared_models:Model", **options) for options in ({}, {"tiles": {"size": 64}})
    )
    known = [backend_of(spec).known_before_probe(spec, spec.to_json()) for spec in (plain, tiled)]
    assert known[0] != known[1]
    assert known[0] == backend_of(plain).known_before_probe(plain, replace(plain, view=View(resize=8)).to_json())


def test_limit_of_pixels_is_higher_with_tiles_unless_the_job_says_one() -> None:
    data = {"source": {"uri": "in"}, "output": {"uri": "out"}, "models": [{"model": "nanodet_g"}]}
    assert build_job(data, ()).source.max_tiled_pixels == 2_000_000_000
    assert build_job(data, ["source.max_pixels=5"]).source.max_tiled_pixels == 5


def test_own_models_are_checked_when_they_have_said_what_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiled_models.py").write_text(
        "import cvbatch\n"
        "class Model:\n"
        "    categories, view = ['a'], cvbatch.View(resize=(8, 8))\n"
        "    def __init__(self, task): self.task = task\n"
        "    def predict(self, images): return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for task in ("detection", "classification"):
        spec = resolved(model="python:tiled_models:Model", options={"task": task}, tiles={"size": 64})
        if task == "detection":
            view = probe_model(spec).view
            assert (view.resize, view.tiles) == ((8, 8), Tiles(size=64))
        else:
            with pytest.raises(ModelError, match="tiles: belong to detection and segmentation, but tiled_models:Model"):
                probe_model(spec)
