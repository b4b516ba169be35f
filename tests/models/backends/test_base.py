"""What kinds of models say of themselves, and that it holds for what a job may name."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.inference import loading
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends import BACKENDS, backend_for, backend_of, is_setting_applicable
from cvbatch.models.backends.base import Backend
from cvbatch.models.backends.catalogued import CataloguedBackend
from cvbatch.models.backends.graph_files import GraphFileBackend
from cvbatch.models.backends.hub import HubBackend
from cvbatch.models.backends.packaged import PackagedBackend
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec


def resolved(model: str, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": model, **options})])
    return spec


LITE0 = resolved("efficientnet_lite0")
RESNET = resolved("resnet18", weights=None)
DETECTOR = resolved("ssdlite320_mobilenet_v3_large", weights=None)
OWN = resolved("python:tests.inference.python.test_network:Model")


@pytest.mark.parametrize(("spec", "kind"), [(LITE0, "embedded"), (RESNET, "torchvision"), (OWN, "python")])
def test_a_kind_knows_its_models_by_their_names(spec: ModelSpec, kind: str) -> None:
    assert spec.kind == backend_of(spec).name == kind
    understood = {backend.name for backend in BACKENDS.values() if backend.understands_model(spec.name)}
    assert understood == ({kind} if spec is not OWN else set()), "a factory is named with its prefix"


def test_what_nobody_knows_is_said_with_what_is_near() -> None:
    with pytest.raises(ModelError, match="did you mean efficientnet_lite0"):
        backend_for("efficientnet_lite1")
    with pytest.raises(ModelError, match=r"own\.pth is a file, not the name of a model"):
        backend_for("own.pth")


@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_kind_sets_is_known_to_all_kinds(name: str) -> None:
    """A misspelled attribute would have no effect, and the default of `Backend` would apply."""
    known = {*vars(Backend), *Backend.__annotations__, *vars(CataloguedBackend)}
    for base in (PackagedBackend, GraphFileBackend, HubBackend):
        known |= {*vars(base), *base.__annotations__}
    assert {set_name for set_name in vars(type(BACKENDS[name])) if not set_name.startswith("_")} - known == set()


@pytest.mark.parametrize("name", [name for name in BACKENDS if BACKENDS[name].loader])
def test_loaders_have_both_functions_and_packages_are_there(name: str) -> None:
    loader = importlib.import_module(BACKENDS[name].loader)
    assert callable(loader.load_network)
    assert callable(loader.complete_spec)
    for module in BACKENDS[name].packages:
        importlib.import_module(module)


def test_settings_are_those_that_there_are() -> None:
    known = {field.name for field in fields(InferenceSettings)}
    for spec in (LITE0, RESNET, DETECTOR, OWN):
        assert backend_of(spec).applicable_settings(spec) <= known
    assert not backend_of(OWN).applicable_settings(OWN)
    assert [is_setting_applicable("compiled", [spec]) for spec in (LITE0, RESNET, DETECTOR)] == [True, True, False]
    assert [is_setting_applicable("padded", [spec]) for spec in (LITE0, RESNET, DETECTOR)] == [False, False, True]
    assert is_setting_applicable("padded", [OWN, DETECTOR])


def test_random_weights() -> None:
    random = [spec for spec in (LITE0, RESNET, DETECTOR, OWN) if backend_of(spec).has_random_weights(spec)]
    assert random == [RESNET, DETECTOR]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend_of(RESNET)), "packages", {"no_such_module": "no-such-package"})
    with pytest.raises(ModelError, match=r"resnet18.*: pip install no-such-package$"):
        loading.load_network(RESNET, device="cpu", setting=InferenceSettings())
