"""What is found before anything is learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import JobError, OutputError, UsageError
from cvbatch.output.store import LocalStore
from cvbatch.training.plan import (
    check_same_training,
    load_training_plan,
    make_training_plan,
    planned_sides,
    read_planned_images,
)
from tests.training.samples import CLASSES, patterns, train_job


def ignore(_: str) -> None:
    """Progress that nobody sees."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns(tmp_path_factory.mktemp("images") / "patterns", 10)


def plan_in(output: Path, images: Path, **parts: object) -> object:
    return make_training_plan(LocalStore(str(output)), train_job(images, output, **parts), ignore)


def test_a_plan_has_classes_sides_and_contents(images: Path, tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "out"))
    plan = make_training_plan(store, train_job(images, tmp_path / "out"), ignore)
    assert plan == load_training_plan(store)
    assert plan.categories == CLASSES
    assert (plan.trained, plan.validated) == (24, 6)
    learned, validated = planned_sides(read_planned_images(store, plan))
    assert sorted([*learned, *validated]) == list(range(30))


def test_the_same_content_is_the_same_data_wherever_it_lies(images: Path, tmp_path: Path) -> None:
    other = patterns(tmp_path / "other", 10)
    first, second = (
        make_training_plan(LocalStore(str(tmp_path / name)), train_job(folder, tmp_path / name), ignore)
        for name, folder in (("a", images), ("b", other))
    )
    assert first.data_sha256 == second.data_sha256


def test_images_without_truth_and_truth_without_images_are_named(images: Path, tmp_path: Path) -> None:
    lines = ["image,label", *(f"{name}/{index:03d}.png,{name}" for name in CLASSES for index in range(1, 10))]
    (tmp_path / "truth.csv").write_text("\n".join([*lines, "bars/999.png,bars"]))
    plan = make_training_plan(
        LocalStore(str(tmp_path / "out")), train_job(images, tmp_path, truth=str(tmp_path / "truth.csv")), ignore
    )
    notes = " ".join(plan.notes)
    assert "3 images have no truth and take no part, such as " in notes
    assert "1 names of the truth fit no image of the source, such as bars/999.png" in notes
    assert plan.trained + plan.validated == 27


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label\nbars/000.png,a\nbars/001.png,a\n", "at least two classes to tell apart, got only 'a'"),
        ("image,label\nx.png,a\ny.png,b\n", "no name fits any image"),
    ],
)
def test_truth_from_which_nothing_can_be_learned_is_refused(
    images: Path, tmp_path: Path, table: str, message: str
) -> None:
    (tmp_path / "truth.csv").write_text(table)
    with pytest.raises(UsageError, match=message):
        plan_in(tmp_path / "out", images, truth=str(tmp_path / "truth.csv"))


def test_broken_images_take_no_part_and_only_broken_ones_are_refused(images: Path, tmp_path: Path) -> None:
    folder = patterns(tmp_path / "some", 4)
    (folder / "bars" / "000.png").write_bytes(b"no image")
    plan = make_training_plan(LocalStore(str(tmp_path / "out")), train_job(folder, tmp_path / "out"), ignore)
    assert any("1 images cannot be read and take no part" in note for note in plan.notes)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UsageError, match="none of its 12 images can be read"):
        plan_in(tmp_path / "second", folder)


def test_a_split_by_folder_or_file_is_kept(images: Path, tmp_path: Path) -> None:
    listed = tmp_path / "validation.txt"
    listed.write_text("".join(f"{name}/001.png\n" for name in CLASSES))
    store = LocalStore(str(tmp_path / "out"))
    plan = make_training_plan(store, train_job(images, tmp_path / "out", split={"file": str(listed)}), ignore)
    assert (plan.trained, plan.validated) == (27, 3)
    with pytest.raises(JobError, match=r"split\.by: expected one of folder, got 'camera'"):
        plan_in(tmp_path / "second", images, split={"by": "camera"})
    by_folder = make_training_plan(
        LocalStore(str(tmp_path / "third")), train_job(images, tmp_path / "third", split={"by": "folder"}), ignore
    )
    assert by_folder.validated == 10


def test_a_changed_job_is_refused_with_the_difference(images: Path, tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "out"))
    job = train_job(images, tmp_path / "out")
    plan = make_training_plan(store, job, ignore)
    check_same_training(store, plan, train_job(images, tmp_path / "out", compute={"checkpoint_minutes": 1}))
    with pytest.raises(OutputError, match="batch_size is 6 in the run, 12 in the job"):
        check_same_training(store, plan, train_job(images, tmp_path / "out", batch_size=12))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"task": "embedding"}, "expected one that can be learned"),
        ({"model": "nanodet_g"}, "nanodet_g does detection, not classification"),
        ({"model": "python:own:Model"}, "cannot learn classification"),
    ],
)
def test_models_and_tasks_that_cannot_learn_are_refused(
    images: Path, tmp_path: Path, parts: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_in(tmp_path / "out", images, **parts)
