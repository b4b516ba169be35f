"""What a folder says of its model, and what is refused in one line before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cvbatch.config.job import ModelConfig
from cvbatch.config.job_file import load_job
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models.backends import backend_of
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.models.weights import file_sha256
from tests.rigs.transformers_models import save_vit


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy whose files may be changed."""
    copy = tmp_path / "tiny"
    copy.mkdir()
    for file in saved.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def resolve(folder: Path | str, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}", **options})])
    return spec


def change_json(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_what_a_folder_says(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [a]\n---\n# Tiny\n")
    spec = resolve(folder)
    assert (spec.kind, spec.name, spec.task, spec.licence) == ("transformers", "tiny", "classification", "apache-2.0")
    assert spec.view == View(resize=(64, 64))
    assert spec.categories == tuple(f"class {label}" for label in range(7))
    assert spec.weights_sha256 == file_sha256(folder / "model.safetensors")
    assert backend_of(spec).weight_bytes(spec) == (folder / "model.safetensors").stat().st_size
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert resolve(folder, task="embedding", normalize=True).categories == ()


def test_resolving_imports_no_torch(folder: Path) -> None:
    code = (
        "import sys; from cvbatch.models.resolve import resolve_models; from cvbatch.config.job import ModelConfig; "
        f"resolve_models([ModelConfig(model='hf:{folder}')]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_of_classes(folder: Path) -> None:
    own = [*"abcdef", "N/A"]
    assert resolve(folder, categories=own).categories == (*"abcdef", None)
    change_json(folder / "config.json", id2label={"0": "cat", "2": "dog"})
    assert resolve(folder).categories == ("cat", None, "dog")
    change_json(folder / "config.json", id2label=None)
    assert resolve(folder).categories == ("LABEL_0", "LABEL_1")
    with pytest.raises(ModelError, match="has 2 classes, and there are 7 categories"):
        resolve(folder, categories=own)


def test_a_folder_is_found_from_the_job_file(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    for spelling in ("hf:tiny", "hf:./tiny", f"hf:{folder}"):
        job = tmp_path / "job.yaml"
        job.write_text(f"source: {{uri: photos}}\nmodels: [{{model: '{spelling}'}}]\noutput: {{uri: out}}\n")
        (model,) = load_job(str(job)).models
        assert (model.model, model.checkpoint) == ("hf", str(folder))
    job.write_text("source: {uri: photos}\nmodels: [{model: 'hf:owner/tiny@v1'}]\noutput: {uri: out}\n")
    (model,) = load_job(str(job)).models
    assert (model.model, model.checkpoint) == ("hf:owner/tiny@v1", None)
    monkeypatch.chdir(tmp_path)
    assert ModelConfig(model="hf:tiny").checkpoint == "tiny"


CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architectures": None}, "expected architectures: in config.json"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "ViTForMaskedImageModeling is not supported: expected …For"),
        ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification is not supported"),
        ({"architectures": ["OwnForImageClassification"]}, "transformers have no OwnForImageClassification: expected"),
        (
            {"architectures": ["OwnForImageClassification"], "auto_map": {"AutoModel": "own.Own"}},
            "no OwnForImageClassification; it has code of its own, which is never run",
        ),
        ({"id2label": {"cat": 0}}, "expected numbers as label ids"),
        ({"id2label": {"0": "cat", "90000": "dog"}}, "expected label ids from 0 on"),
    ],
)
def test_descriptions_that_are_refused(fields: dict[str, Any], words: str, folder: Path) -> None:
    change_json(folder / CONFIG, **fields)
    assert_refused(folder, words)


def assert_refused(folder: Path | str, words: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        resolve(folder, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "detection"}, "ViTForImageClassification does classification and embedding, not detection"),
        ({"top_k": 8}, "top_k of at most its 7 categories, got 8"),
        ({"weights": None}, "weights: a model of transformers has its own"),
        ({"seed": 1}, "seed: belongs to"),
        ({"options": {"a": 1}}, "options: belong to python: and onnx: models"),
        ({"normalize": True}, "normalize: belongs to embedding"),
        ({"sha256": "0123"}, "expected sha256 0123, got"),
        ({"background": True}, "background: hf names its classes itself"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], words: str, saved: Path) -> None:
    assert_refused(saved, words, **options)


def test_folders_that_are_no_models(folder: Path, tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", "expected a folder with a model, and it is missing")
    assert_refused(folder / CONFIG, "and it is a file: name the folder that it is in")
    assert_refused("s3://bucket/tiny", "expected hf:OWNER/NAME of the hub, or hf:./FOLDER")
    with pytest.raises(ModelError, match="expected a folder on this machine"):
        resolve_models([ModelConfig(model="hf", checkpoint="s3://bucket/tiny")])
    with pytest.raises(ModelError, match="expected a model, as hf:NAME"):
        resolve_models([ModelConfig(model="hf")])
    with pytest.raises(ModelError, match="hf:a/b and checkpoint: c contradict each other"):
        resolve_models([ModelConfig(model="hf:a/b", checkpoint="c")])
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "expected a model with config.json, got a folder with nothing")
    (folder / PROCESSOR).unlink()
    assert_refused(folder, "expected preprocessor_config.json")
    (folder / CONFIG).write_text("{")
    assert_refused(folder, "config.json is no JSON")
    (folder / CONFIG).write_text("[]")
    assert_refused(folder, "expected an object in config.json, got list")


def test_weights_that_are_refused(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-9])
    assert_refused(folder, r"model\.safetensors has \d+ bytes, which is not its length: get it again")
    (folder / WEIGHTS).write_bytes(b"<html>" * 9)
    assert_refused(folder, "is no whole file of safetensors: get it again")
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert_refused(folder, "is a pointer of Git LFS, not the weights: run `git lfs pull`")
    (folder / WEIGHTS).unlink()
    assert_refused(folder, r"expected weights as model\.safetensors, got a model with config\.json")
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert_refused(folder, r"its weights are pickled \(pytorch_model\.bin\), and a pickle may run code")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused(folder, r"its weights are in 2 files, and model-00001-of-00002\.safetensors is missing")


def test_a_processor_among_others_is_read(folder: Path) -> None:
    """As transformers 5 save them."""
    settings = json.loads((folder / PROCESSOR).read_text())
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": {**settings, "size": 32}}))
    assert resolve(folder).view == View(resize=(32, 32))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert resolve(folder).view == View(resize=(64, 64))


def test_a_missing_package_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Exception, match=r"needs transformers: pip install 'cvbatch\[transformers\]'"):
        resolve(saved)
