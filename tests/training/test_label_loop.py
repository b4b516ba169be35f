"""Label, choose, correct in Label Studio, train, compare, and label again only what the new model changes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cvbatch
from cvbatch.comparison.report import ComparisonReport
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import load_plan
from cvbatch.testing import ShapeSet, generate_shapes
from tests.training.labelling import evolve_labels, label_images, run_job
from tests.training.samples import train, train_job

VECTORS = {"model": "efficientnet_lite0", "task": "embedding"}


@dataclass(frozen=True)
class Loop:
    """A folder with an archive of which a person knows the truth, and images to compare models with."""

    folder: Path
    pool: ShapeSet
    unseen: ShapeSet
    parts: dict[str, Any]

    def read_truth(self) -> dict[str, str]:
        with self.pool.labels.open(encoding="utf-8") as file:
            return {Path(image).name: label for image, label in list(csv.reader(file))[1:]}

    def learn(self, name: str, tasks: Sequence[dict[str, Any]]) -> None:
        """Train on what a person has labelled: the export of a project of Label Studio."""
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(list(tasks)))
        truth = self.folder / f"{name}.parquet"
        cvbatch.import_labels(str(file), "label-studio", str(truth))
        train(train_job(self.pool.images, self.folder / name, truth=str(truth), **self.parts))

    def correct(self, tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tasks as a person leaves them, who knows the truth."""
        truth = self.read_truth()
        return [
            {**task, "annotations": [{"result": [choose_class(truth[Path(task["data"]["name"]).name])]}]}
            for task in tasks
        ]

    def choose(self, name: str, count: int, by: str, exclude: Iterable[int]) -> list[dict[str, Any]]:
        """The tasks of some images of the run `labels`."""
        labels, tasks = str(self.folder / "labels"), self.folder / f"{name}-tasks"
        choice = cvbatch.choose_samples(labels, count, by=by, model="shape", exclude=exclude, max_cosine=1.0)
        cvbatch.export_predictions(labels, "label-studio", str(tasks), model="shape", where=choice.where())
        return [task for file in sorted(tasks.glob("tasks-*.json")) for task in json.loads(file.read_text())]

    def run_unseen(self, *names: str) -> None:
        models = [{"model": str(self.folder / name), "as": name} for name in names]
        label_images(run_job(self.unseen.images, self.folder / "tests", *models))

    def compare(self, first: str, second: str) -> ComparisonReport:
        output = str(self.folder / "tests")
        return cvbatch.compare_runs(output, output, truth=str(self.unseen.labels), model=first, second_model=second)

    def accuracy(self, name: str) -> float:
        report = cvbatch.evaluate(str(self.folder / "tests"), str(self.unseen.labels), model=name)
        value = report.metrics["classification"].values["top-1"]
        assert value is not None
        return value

    def go_round(self, first: int, count: int, by: str) -> None:
        """Models `first`, `chosen` and `random`; the run `labels` ends with the chosen one."""
        pictures = sorted(self.pool.images.iterdir())
        known = self.correct({"data": {"name": picture.name}} for picture in pictures[:first])
        self.learn("first", known)
        shape = {"model": str(self.folder / "first"), "as": "shape"}
        label_images(run_job(self.pool.images, self.folder / "labels", shape, VECTORS))
        for name, strategy in (("chosen", by), ("random", "random")):
            tasks = self.choose(name, count - first, strategy, range(first))
            self.learn(name, [*known, *self.correct(tasks)])
        self.run_unseen("first", "chosen", "random")
        shape["model"] = str(self.folder / "chosen")
        evolve_labels(run_job(self.pool.images, self.folder / "labels", shape, VECTORS))


def choose_class(name: str) -> dict[str, Any]:
    """A choice as Label Studio exports it."""
    return {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [name]}}


def check_evolved(loop: Loop) -> None:
    """The labels of the archive are those of the chosen model, and its vectors were kept."""
    plan = load_plan(LocalStore(str(loop.folder / "labels")))
    assert plan is not None
    assert [model.alias for model in plan.models] == ["shape", "embedding"]
    assert str(loop.folder / "chosen") in str(plan.models[0].weights_path)
    rows = cvbatch.read(str(loop.folder / "labels"))
    truth = loop.read_truth()
    right = [truth[Path(uri).name] == label for uri, label in zip(rows["image_uri"], rows["shape_label"], strict=True)]
    assert sum(right) / len(right) > 0.4
    assert rows["embedding_vector"].notna().all()


def test_the_loop_closes(tmp_path: Path) -> None:
    parts = {"image_size": 48, "batch_size": 16, "stages": [{"layers": "head", "epochs": 8, "rate": 0.01}]}
    pool, unseen = (generate_shapes(tmp_path / str(seed), 48, seed=seed, longest_side=48) for seed in (1, 2))
    loop = Loop(tmp_path, pool, unseen, parts)
    loop.go_round(16, 32, "uncertainty")
    assert loop.compare("first", "chosen").verdict is not None
    check_evolved(loop)


@pytest.mark.slow
def test_200_chosen_labels_are_better_than_200_random_ones(tmp_path: Path) -> None:
    """Two of the four classes are rare in the archive, and as frequent as the others in what is asked later."""
    parts = {"image_size": 64, "batch_size": 32, "stages": [{"layers": "head", "epochs": 40, "rate": 0.005}]}
    shares = {"circle": 1.0, "square": 1.0, "star": 0.1, "triangle": 0.1}
    pool = generate_shapes(tmp_path / "pool", 1500, seed=1, shares=shares, most_shapes=1, longest_side=64)
    unseen = generate_shapes(tmp_path / "unseen", 600, seed=2, most_shapes=1, longest_side=64)
    loop = Loop(tmp_path, pool, unseen, parts)
    loop.go_round(60, 200, "uncertainty")
    check_evolved(loop)
    assert loop.accuracy("chosen") > loop.accuracy("random") + 0.03
    assert loop.compare("random", "chosen").verdict == "better"
    assert loop.compare("first", "chosen").verdict == "better"
