"""Folders of `cvbatch train` as models of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.inference.torch.efficientnet_lite0 import construct_lite0
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.models.trained import TRAINED_MODEL, TrainedModel
from cvbatch.models.weights import file_sha256

VIEW = View(resize=40, crop=(32, 32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights = tmp_path / "weights.safetensors"
    save_file(construct_lite0(2).state_dict(), weights)
    trained = TrainedModel(
        model="efficientnet_lite0",
        task="classification",
        categories=("cat", "dog"),
        view=VIEW,
        weights=weights.name,
        sha256=file_sha256(weights),
        licence="Apache-2.0",
    )
    (tmp_path / "model.json").write_bytes(TRAINED_MODEL.encode_record(trained))
    return tmp_path


def resolve(folder: Path | str, **options: object) -> ModelSpec:
    return resolve_models([ModelConfig.model_validate({"model": str(folder), **options})])[0]


def test_a_folder_gives_network_classes_view_and_weights(folder: Path) -> None:
    spec = resolve(folder)
    assert (spec.name, spec.kind, spec.categories, spec.view) == (
        "efficientnet_lite0",
        "embedded",
        ("cat", "dog"),
        VIEW,
    )
    assert spec.weights_path == str(folder / "weights.safetensors")
    assert spec.licence == "Apache-2.0"


def test_its_features_can_be_taken_as_those_of_the_network(folder: Path) -> None:
    spec = resolve(folder, task="embedding")
    assert (spec.task, spec.dimension) == ("embedding", 1280)


def test_other_weights_than_those_described_are_refused(folder: Path) -> None:
    save_file(construct_lite0(2).state_dict(), folder / "weights.safetensors")
    with pytest.raises(ModelError, match="expected sha256"):
        resolve(folder)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"weights": None}, "has its own: leave weights"), ({"categories": ["a"]}, "names its classes itself")],
)
def test_options_that_the_folder_answers_are_refused(folder: Path, option: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(folder, **option)


def test_a_folder_without_a_result_and_a_damaged_one_are_refused(folder: Path) -> None:
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match=r"model\.json: expected the description of a trained model"):
        resolve(folder)
    (folder / "model.json").unlink()
    with pytest.raises(ModelError, match=r"expected a folder that cvbatch train has finished, with model\.json"):
        resolve_models([ModelConfig(model="trained", checkpoint=str(folder))])
