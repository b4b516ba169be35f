"""What a program says of itself, and what is refused in one line; nothing in a file is run."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models.backends import backend_for, backend_of
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.models.weights import file_sha256
from tests.rigs.programs import change_json, change_program, save_program

MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
UNIT = {"preprocess": "unit"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = nn.Sequential(nn.Conv2d(3, 3, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(dim=1))
    return save_program(module, tmp_path_factory.mktemp("programs") / "own.pt2", (2, 3, 32, 48))


def resolve(path: Path | str, **options: Any) -> ModelSpec:
    given = {"categories": ["a", "b", "c"], "options": UNIT, **options}
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"program:{path}", **given})])
    return spec


def assert_refused(path: Path | str, words: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        resolve(path, **options)
    assert "\n" not in str(caught.value)


def test_what_a_program_says(saved: Path) -> None:
    spec = resolve(saved)
    assert (spec.kind, spec.name, spec.task) == ("program", "own.pt2", "classification")
    assert spec.view == View(resize=55, crop=(32, 48))
    reading = GraphReading.from_options(spec.options)
    assert (reading.scores, reading.batch, reading.layout) == ("probabilities", None, "nchw"), "it ends in softmax"
    assert (spec.weights_path, spec.weights_sha256) == (str(saved), file_sha256(saved))
    assert backend_of(spec).applicable_settings(spec) == frozenset()
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_keys_beside_it_are_those_of_onnx(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt2"
    copy.write_bytes(saved.read_bytes())
    keys = "preprocess: imagenet\ncategories: [cat, dog, bird]\nlicence: MIT\nfit: stretch\n"
    copy.with_suffix(".yaml").write_text(keys)
    spec = resolve(copy, categories=None, options={})
    assert (spec.categories, spec.licence, spec.view) == (("cat", "dog", "bird"), "MIT", View(resize=(32, 48)))
    assert_refused(copy, "has 3 classes, and there are 2 categories", categories=["a", "b"])
    assert_refused(saved, "does not say how its images are prepared", options={})
    assert_refused(saved, r"its outputs are not known for detection: found softmax \(\?, 3\) float32", task="detection")


def test_resolving_imports_no_torch(saved: Path) -> None:
    code = (
        "import sys; from cvbatch.models.resolve import resolve_models; from cvbatch.config.job import ModelConfig; "
        f"resolve_models([ModelConfig(model='program:{saved}', categories=['a', 'b', 'c'], options={UNIT})]); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_that_are_no_programs(saved: Path, tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.pt2", "expected a program of torch.export, and it is missing")
    with pytest.raises(ModelError, match=r"own\.pt2 is a file: expected program:FILE: program:own\.pt2"):
        backend_for("own.pt2")
    other = tmp_path / "other.pt2"
    module = nn.Linear(2, 2)
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(module, torch.zeros(1, 2)).save(str(other))  # type: ignore[no-untyped-call]
    assert_refused(other, "is a TorchScript file, which is refused: it holds code that would be run")
    torch.save(module, other)
    assert_refused(other, r"is a pickle of torch\.save, which may run code and is never loaded")
    other.write_bytes(pickle.dumps({}))
    assert_refused(other, "is a pickle, which may run code and is never loaded")
    other.write_bytes(saved.read_bytes()[:900])
    assert_refused(other, "is cut off")
    other.write_text("text")
    assert_refused(other, "is something else: expected a program of torch.export: torch.export.save")
    for name, words in {
        "serialized_exported_program.json": "is a program as torch before 2.8 wrote it",
        "own/data/aotinductor/model/a.so": "holds compiled code, which is never run",
        "a.txt": "is another zip archive",
    }.items():
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr(name, "")
        assert_refused(other, words)


def mark_as_pickle(config: Any) -> None:
    next(iter(config["config"].values()))["use_pickle"] = True


def name_an_object(config: Any) -> None:
    next(iter(config["config"].values()))["path_name"] = "opaque_obj_0"


def with_target(target: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


def with_another_schema(model: Any) -> None:
    model["schema_version"]["major"] = 99


def without_nodes(model: Any) -> None:
    del model["graph_module"]["graph"]["nodes"]


def with_an_object(model: Any) -> None:
    specs = model["graph_module"]["signature"]["input_specs"]
    specs.append({"custom_obj": {"arg": {"name": "a", "class_fqn": "b"}, "custom_obj_name": "c"}})


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (WEIGHTS, mark_as_pickle, "0.weight is stored as a pickle, which may run code: expected plain tensors only"),
        (WEIGHTS, name_an_object, "0.weight is stored as a pickle"),
        (MODEL, with_target("torch.hub.load"), "it uses torch.hub.load, and only operations of torch.ops.aten and"),
        (MODEL, with_target("torch.ops.aten.from_file.default"), "it uses torch.ops.aten.from_file.default"),
        (MODEL, with_target("torch.ops.aten.__class__.mro"), "it uses torch.ops.aten.__class__.mro"),
        (MODEL, with_target("torch.ops.load_library"), "it uses torch.ops.load_library"),
        (MODEL, with_target("_operator.methodcaller"), "it uses _operator.methodcaller"),
        (MODEL, with_target("#own:op"), "it uses #own:op"),
        (MODEL, with_another_schema, r"torch 2\..* wrote it with the schema 99, and 8 is known"),
        (MODEL, without_nodes, r"its graph is damaged \(KeyError: 'nodes'\): get it again"),
        (MODEL, with_an_object, "it needs an object besides tensors, which would be a pickle"),
    ],
)
def test_what_would_run_something_is_refused(
    file: str, change: Callable[[Any], None], words: str, saved: Path, tmp_path: Path
) -> None:
    assert_refused(change_program(saved, tmp_path / "changed.pt2", change_json(file, change)), words)


def _without(name: str, files: dict[str, bytes]) -> None:
    del files[name]


def test_missing_and_double_files(saved: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.pt2"
    for name, words in {"data/weights/weight_0": "weight_0 is missing", WEIGHTS: "is missing or damaged"}.items():
        change_program(saved, changed, partial(_without, name))
        assert_refused(changed, words)
    change_program(saved, changed, lambda files: files.update({"data/weights/model.pt": b""}))
    assert_refused(changed, "its weights are a pickle, as earlier versions")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(changed, "a") as archive:
        archive.writestr(archive.namelist()[0], "")
    assert_refused(changed, "two files in it have the same name")


def test_a_pickle_of_samples_is_not_read(saved: Path, tmp_path: Path) -> None:
    evil = {"data/sample_inputs/model.pt": b"cos\nsystem\n(S'false'\ntR."}
    assert resolve(change_program(saved, tmp_path / "evil.pt2", lambda files: files.update(evil))).kind == "program"
