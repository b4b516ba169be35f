"""What timm's registry and a folder say of a model, and what is refused in one line before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.data import ImageNetInfo

from cvbatch.config.job import ModelConfig
from cvbatch.config.job_file import load_job
from cvbatch.errors import ModelError, UsageError
from cvbatch.images.preprocess import View
from cvbatch.models.backends import backend_of
from cvbatch.models.catalog import category_set
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.models.timm import registry
from cvbatch.models.weights import file_sha256
from tests.rigs.timm_models import TINY, save_timm_model

NAMES = [f"class {label}" for label in range(7)]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_timm_model(tmp_path_factory.mktemp("models") / "tiny", label_names=NAMES)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy whose files may be changed."""
    copy = tmp_path / "tiny"
    copy.mkdir()
    for file in saved.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def resolve(model: Path | str, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"timm:{model}", **options})])
    return spec


def assert_refused(model: Path | str, words: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        resolve(model, **options)
    assert "\n" not in str(caught.value)


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_what_a_folder_says(saved: Path) -> None:
    spec = resolve(saved)
    assert (spec.kind, spec.name, spec.task, spec.licence) == ("timm", "tiny", "classification", "apache-2.0")
    assert spec.view == View(resize=168, crop=(160, 160), interpolation="bicubic")
    assert (list(spec.categories), spec.label_map) == (NAMES, "categories of classification")
    assert spec.weights_sha256 == file_sha256(saved / WEIGHTS)
    assert backend_of(spec).weight_bytes(spec) == (saved / WEIGHTS).stat().st_size
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    features = resolve(saved, task="embedding", normalize=True)
    assert (features.categories, features.label_map) == ((), "")


def test_resolving_imports_neither_torch_nor_timm(saved: Path) -> None:
    registry.timm_registry()
    code = (
        "import sys; from cvbatch.models.resolve import resolve_models; from cvbatch.config.job import ModelConfig; "
        f"resolve_models([ModelConfig(model='timm:{saved}')]); "
        "print({'torch', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_names_of_the_registry_with_and_without_tags() -> None:
    plain, large = (
        resolve("vit_tiny_patch16_224", weights=None),
        resolve("vit_tiny_patch16_224.augreg_in21k", weights=None, seed=3),
    )
    assert plain.view == large.view == View(resize=248, crop=(224, 224), interpolation="bicubic")
    assert (plain.label_map, len(plain.categories)) == ("imagenet-1k", 1000)
    assert (large.label_map, len(large.categories), large.seed) == ("imagenet-21k-goog", 21843, 3)
    assert list(large.categories) == ImageNetInfo("imagenet-21k-goog").label_descriptions()
    assert [backend_of(spec).has_random_weights(spec) for spec in (plain, large)] == [True, True]
    assert resolve("vit_small_patch14_dinov2", weights=None).task == "embedding", "it has no head"


def test_classes_of_imagenet_have_the_names_and_the_order_of_other_models() -> None:
    differing = [
        (ours, theirs)
        for ours, theirs in zip(category_set("imagenet-1k"), ImageNetInfo().label_descriptions(), strict=True)
        if str(ours).lower().replace("-", " ") not in theirs.lower().replace("-", " ")
    ]
    assert len(differing) < 40, "torchvision says some shorter"


def test_names_of_classes(folder: Path) -> None:
    own = [*"abcdef", "N/A"]
    assert resolve(folder, categories=own).categories == (*"abcdef", None)
    assert_refused(folder, "has 7 classes, and there are 2 categories", categories=["a", "b"])
    change_config(folder, label_descriptions={"class 0": "the first"})
    assert resolve(folder).categories[:2] == ("the first", "class 1")
    change_config(folder, label_names=["a"])
    assert_refused(folder, "expected label_names: for 7 classes, got 1")
    change_config(folder, label_names=None)
    assert_refused(folder, "does not name its 7 classes: give categories: .* or task: embedding")
    assert resolve(folder, task="embedding").task == "embedding"
    change_config(folder, num_classes=1000)
    assert resolve(folder).label_map == "imagenet-1k"


def test_a_description_of_earlier_versions(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    flat = {**content["pretrained_cfg"], "architecture": TINY, "labels": NAMES}
    (folder / "config.json").write_text(json.dumps(flat))
    spec = resolve(folder)
    assert (list(spec.categories), spec.view) == (NAMES, View(resize=168, crop=(160, 160), interpolation="bicubic"))


def test_a_folder_is_found_from_the_job_file(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    job = tmp_path / "job.yaml"
    for spelling in ("timm:tiny", "timm:./tiny", f"timm:{folder}"):
        job.write_text(f"source: {{uri: photos}}\nmodels: [{{model: '{spelling}'}}]\noutput: {{uri: out}}\n")
        (model,) = load_job(str(job)).models
        assert (model.model, model.checkpoint) == ("timm", str(folder))
    job.write_text("source: {uri: photos}\nmodels: [{model: 'timm:resnet18.a1_in1k'}]\noutput: {uri: out}\n")
    (model,) = load_job(str(job)).models
    assert (model.model, model.checkpoint) == ("timm:resnet18.a1_in1k", None)


def test_own_weights_of_a_network_of_the_registry(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "own.pth")
    spec = resolve("resnet18", checkpoint=str(tmp_path / "own.pth"), categories=["cat", "dog"])
    assert (spec.categories, spec.weights_path) == (("cat", "dog"), str(tmp_path / "own.pth"))
    assert spec.weights_sha256 == file_sha256(tmp_path / "own.pth")
    assert_refused("resnet18", "needs categories: too", checkpoint=str(tmp_path / "own.pth"))
    assert_refused("resnet18", "checkpoint: there is no file", checkpoint="no.pth", categories=["a"])


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("vit_tiny_patch16_24", {}, "has no model 'vit_tiny_patch16_24': did you mean vit_tiny_patch16_224 or"),
        (
            "vit_tiny_patch16_224.a",
            {"weights": None},
            "has no weights 'a': known are vit_tiny_patch16_224.augreg_in21k",
        ),
        ("hf-hub:a/b", {"weights": None}, "has weights of its own: for other ones, name its architecture"),
        ("test_vit2", {}, "not published as safetensors|is not on this machine, and the hub cannot be reached"),
        ("resnet18", {"weights": "V1"}, "timm's weights are a part of the name"),
        ("resnet18", {"seed": 1}, "seed: belongs to `weights: null`"),
        ("resnet18", {"options": {"a": 1}}, "options: belong to python: and onnx: models"),
        ("resnet18", {"weights": None, "sha256": "01"}, "sha256: timm:resnet18 has random weights and no file"),
        ("resnet18", {"weights": None, "task": "detection"}, "does classification and embedding, not detection"),
        ("vit_small_patch14_dinov2", {"weights": None, "task": "classification"}, "does embedding, not classification"),
        ("resnet18", {"weights": None, "normalize": True}, "normalize: belongs to embedding"),
        ("resnet18", {"weights": None, "top_k": 1001}, "top_k of at most its 1000 categories, got 1001"),
        ("resnet18", {"weights": None, "categories": ["a"]}, "has 1000 classes, and there are 1 categories"),
    ],
)
def test_what_is_refused(model: str, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_refused(model, words, **options)


def test_folders_that_are_no_models(folder: Path, tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", "timm:.*: expected a folder with a model, and it is missing")
    assert_refused(folder / "config.json", "and it is a file: name the folder that it is in")
    with pytest.raises(ModelError, match="timm: expected a model, as timm:NAME"):
        resolve_models([ModelConfig(model="timm")])
    assert_refused(folder, "has its own: leave weights: null out", weights=None)
    assert_refused(folder, "expected sha256 0123, got", sha256="0123")
    change_config(folder, model_args=[1])
    assert_refused(folder, "expected a mapping as model_args: in config.json")
    change_config(folder, architecture="resnet1")
    assert_refused(folder, "the installed timm has no architecture 'resnet1': did you mean resnet")
    change_config(folder, architecture=None, architectures=["ViTModel"])
    assert_refused(folder, "as timm writes it, got a model of transformers: hf:")


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert_refused(folder, r"its weights are pickled \(pytorch_model\.bin\), and a pickle may run code")


def test_the_commit_of_the_hub_is_pinned(saved: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--timm--test_vit.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(saved)
    code = (
        "from cvbatch.models.resolve import resolve_models; from cvbatch.config.job import ModelConfig\n"
        "for model in ('timm:test_vit.r160_in1k', 'timm:hf-hub:timm/test_vit.r160_in1k@main'):\n"
        "    (spec,) = resolve_models([ModelConfig(model=model)])\n"
        "    print(spec.options['revision'], len(spec.categories), spec.licence)"
    )
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HOME": str(Path.home())}
    environment["PYTHONPATH"] = ":".join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.splitlines() == [f"{commit} 1000 apache-2.0", f"{commit} 7 apache-2.0"], done.stderr


def test_a_missing_package_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    registry.timm_registry.cache_clear()
    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UsageError, match=r"needs timm: pip install 'cvbatch\[timm\]'"):
        resolve(saved)
    registry.timm_registry.cache_clear()
