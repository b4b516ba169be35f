"""Models of a job are found in a run by their content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cvbatch.evolution.changes import find_model_changes
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import LocalStore
from tests.samples import planned, spec

LABELS = replace(spec("labels"), kind="embedded", name="efficientnet_lite0", weights_sha256="a" * 64)
BOXES = replace(spec("boxes", "detection"), kind="nanodet", name="nanodet_g", weights_sha256="b" * 64)


def describe(tmp_path: Path, *models: ModelSpec) -> str:
    store, plan = planned(tmp_path, 3, LABELS, BOXES)
    changes = find_model_changes(LocalStore(store.root), plan, models, {})
    assert changes.is_empty == ([model.alias for model in models] == ["labels", "boxes"] and not changes.computed)
    return changes.describe()


def test_models_of_the_run_are_copied(tmp_path: Path) -> None:
    assert describe(tmp_path, LABELS, BOXES) == "copies labels, boxes"


def test_another_order_is_a_change(tmp_path: Path) -> None:
    assert describe(tmp_path, BOXES, LABELS) == "copies boxes, labels"


def test_other_weights_or_options_are_computed(tmp_path: Path) -> None:
    other = replace(LABELS, weights_sha256="c" * 64)
    assert describe(tmp_path, other, BOXES) == "computes labels; copies boxes"
    assert describe(tmp_path, LABELS, replace(BOXES, score_threshold=0.9)) == "computes boxes; copies labels"


def test_weights_at_another_place_are_the_same(tmp_path: Path) -> None:
    assert describe(tmp_path, LABELS, replace(BOXES, weights_path="/elsewhere/b.pt")) == "copies labels, boxes"


def test_a_renamed_model_is_found(tmp_path: Path) -> None:
    renamed = replace(LABELS, alias="animals", label_map="")
    assert describe(tmp_path, renamed) == "renames labels to animals; drops boxes"


def test_each_column_is_copied_once(tmp_path: Path) -> None:
    twice = [replace(LABELS, alias=alias) for alias in ("one", "two")]
    assert describe(tmp_path, *twice) == "computes two; renames labels to one; drops boxes"


def test_names_may_be_exchanged(tmp_path: Path) -> None:
    boxes = replace(BOXES, alias="labels"), replace(LABELS, alias="boxes")
    assert describe(tmp_path, *boxes) == "computes labels, boxes"
