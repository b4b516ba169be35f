"""Halves of an archive are alike; blurred, dark and other cameras' images are not, and the answer names why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as pads
import pytest
from PIL import Image, ImageFilter

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.drift.measure import measure_drift
from cvbatch.errors import OutputError, UsageError
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from tests.samples import commit_rows, committed_run, job, planned, spec

ROWS = 60
CLASSES = spec(top_k=2)
VECTORS = spec("vectors", "embedding", dimension=16, categories=())
FILTERS = np.random.default_rng(9).normal(size=(48, 16))
FILTERS[:, 4:] -= FILTERS[:, 4:].mean(axis=0)  # these answer to contrast alone


def scene(seed: int) -> Image.Image:
    """A picture with some structure at all scales."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((96, 128, 3))
    for side in (4, 12, 48, 96):
        noise = random.uniform(0, 255, (side, side, 3)).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((128, 96)))
    return Image.fromarray((pixels / 4 * random.uniform(0.6, 1)).astype(np.uint8))


def other_camera(image: Image.Image) -> Image.Image:
    """Fewer pixels, another balance of colours, and noise."""
    small = np.asarray(image.resize((112, 84))).astype(float) * [1.15, 1.0, 0.75]
    noise = np.random.default_rng(int(small.sum())).normal(0, 12, small.shape)
    return Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8))


COPIES = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "dark": lambda image: image.point(lambda value: value // 3),
    "other camera": other_camera,
}


def embed(image: Image.Image) -> npt.NDArray[np.float64]:
    """A seeded embedding: one layer of random filters, and the mean of what each of them answers."""
    small = np.asarray(image.resize((64, 48))) / 255.0
    patches = np.lib.stride_tricks.sliding_window_view(small, (4, 4), (0, 1))[::2, ::2].reshape(-1, 48)
    means: npt.NDArray[np.float64] = np.maximum(patches @ FILTERS, 0).mean(axis=0)
    return means


def write_run(folder: Path, images: list[Image.Image]) -> str:
    """A run over images that are really there."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    paths = [photos / f"{index:03d}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    asked = job(photos)
    store = LocalStore(str(folder / "out"))
    store.check_writable()
    make_plan(store, asked, [CLASSES, VECTORS], open_source(asked.source))
    columns = {
        "image_uri": [str(path) for path in paths],
        "width": [image.width for image in images],
        "height": [image.height for image in images],
        "image_bytes": [path.stat().st_size for path in paths],
        "vectors_vector": [embed(image).tolist() for image in images],
        **answers(np.random.default_rng(len(images)), len(images)),
    }
    commit_rows(store, len(images), CLASSES, VECTORS, **columns)
    return store.root


def answers(random: np.random.Generator, rows: int) -> dict[str, Any]:
    """Made-up labels and scores."""
    scores = random.uniform(0.5, 1, rows)
    return {
        "classification_label": random.choice(["a", "b"], rows).tolist(),
        "classification_top_scores": np.stack([scores, 1 - scores], axis=1).tolist(),
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_run(tmp_path_factory.mktemp("archive"), [scene(seed) for seed in range(ROWS)])


@pytest.mark.parametrize(
    ("copy", "signals"),
    [
        ("blurred", {"sharpness", "bytes per pixel"}),
        ("dark", {"brightness", "vectors: vectors"}),
        ("other camera", {"megapixels", "vectors: vectors"}),
    ],
)
def test_copies_are_flagged(archive: str, copy: str, signals: set[str], tmp_path: Path) -> None:
    for draw in range(2):  # of other scenes, so that nothing but the copy differs
        images = [COPIES[copy](scene(seed)) for seed in range(1000 * draw + 500, 1000 * draw + 500 + ROWS)]
        output = write_run(tmp_path / str(draw), images)
        report = measure_drift(output, archive)
        flagged = [shift.signal for shift in report.shifts if shift.is_flagged]
        assert signals <= set(flagged)
        assert not {"classification: confidence", "classification: class shares"} & set(flagged)
        assert report.sentence.startswith("The images are not like the reference, so check answers")
        assert len(report.examples) == 5
        assert report.counts["run"]["pixels"] == ROWS
        assert report.notes == ()


def test_other_scenes_of_the_same_camera_are_not_flagged(archive: str, tmp_path: Path) -> None:
    report = measure_drift(write_run(tmp_path, [scene(seed) for seed in range(100, 100 + ROWS)]), archive)
    assert not report.is_flagged
    assert report.sentence.startswith("No difference worth a check was seen in 60 images against 60 of the reference")
    assert report.examples == ()


def test_halves_of_one_archive_are_flagged_in_few_of_a_hundred_draws(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows, vectors = 400, random.normal(size=(400, 16)) @ random.normal(size=(16, 16))
    columns = {
        "width": random.integers(50, 200, rows).tolist(),
        "height": random.integers(50, 200, rows).tolist(),
        "image_bytes": random.integers(1000, 9000, rows).tolist(),
        "vectors_vector": vectors.tolist(),
        **answers(random, rows),
    }
    output = committed_run(tmp_path, rows, CLASSES, VECTORS, **columns)[0]
    flagged = 0
    for draw in range(100):
        half = pads.field("row_id").isin(np.random.default_rng(draw).permutation(rows)[: rows // 2])
        report = measure_drift(output, output, where=half, reference_where=~half, pixels=0, seed=draw)
        assert len(report.shifts) == 7
        flagged += report.is_flagged
    assert flagged <= 5


def test_classes_and_folders_that_moved_most(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    size = {"width": [64] * 120, "height": [48] * 120, "image_bytes": [5000] * 120}
    uris = [f"/photos/{'night' if row % 3 == 0 else 'day'}/{row}.jpg" for row in range(120)]
    scores = np.where(np.arange(120) % 3 == 0, 0.55, random.uniform(0.8, 1, 120))
    moved = {
        "image_uri": uris,
        "classification_label": ["a"] * 90 + ["b"] * 30,
        "classification_top_scores": np.stack([scores, 1 - scores], axis=1).tolist(),
    }
    home_scores = random.uniform(0.8, 1, 120)
    usual = {
        "classification_label": ["a", "b"] * 60,
        "classification_top_scores": np.stack([home_scores, 1 - home_scores], axis=1).tolist(),
    }
    output = committed_run(tmp_path / "moved", 120, CLASSES, failed=[], **size, **moved)[0]
    home = committed_run(tmp_path / "home", 120, CLASSES, **size, **usual)[0]
    report = measure_drift(output, home, by="folder", pixels=0)
    best = report.classes[0]
    assert (best.label, best.reference, best.value) in {("a", 0.5, 0.75), ("b", 0.5, 0.25)}
    assert [(group.group, group.images, group.is_flagged) for group in report.groups] == [
        ("/photos/night", 40, True),
        ("/photos/day", 80, False),
    ]
    assert report.groups[0].signal in ("classification: confidence", "classification: entropy")
    assert {example["row_id"] % 3 for example in report.examples} == {0}


def test_other_tasks_and_what_cannot_be_compared(tmp_path: Path) -> None:
    boxes, regions = spec("boxes", "detection"), spec("regions", "segmentation")
    columns = {
        "width": [8] * 30, "height": [8] * 30, "image_bytes": [9] * 30,
        "boxes_labels": [["a", "b"], [], ["b"]] * 10,
        "boxes_scores": [[0.9, 0.5], [], [0.7]] * 10,
        "regions_labels": [["a", "b"], [], ["b"]] * 10,
        "regions_areas": [[0.2, 0.5], [], [0.1]] * 10,
    }  # fmt: skip
    output = committed_run(tmp_path / "one", 30, boxes, regions, spec("more"), failed=[29], **columns)[0]
    other = spec("regions", "segmentation", weights="v2")
    home = committed_run(tmp_path / "two", 30, boxes, other, **columns)[0]
    report = measure_drift(output, home)
    assert {shift.signal for shift in report.shifts} == {
        "megapixels", "width by height", "bytes per pixel", "boxes: boxes", "boxes: surest box", "boxes: class shares",
    }  # fmt: skip
    assert sorted(shift.label for shift in report.classes) == ["(none)", "a", "b"]
    assert report.notes[:2] == (
        "regions is not compared, as it is another model in the reference (m:f)",
        "more is not compared, as the reference does not have it",
    )
    assert [note.partition(" (")[0].partition(": ")[2] for note in report.notes[2:]] == [
        "29 of 29 images could not be read again for brightness and sharpness",
        "30 of 30 images could not be read again for brightness and sharpness",
    ]
    itself = measure_drift(output, output, pixels=0, model="regions")
    assert {"regions: classes", "regions: area"} <= {shift.signal for shift in itself.shifts}
    shares = {shift.label: shift.value for shift in itself.classes if shift.model == "regions"}
    assert shares == pytest.approx({"(none)": 10 / 29, "b": 19 / 29})
    assert itself.counts["run"] == {"usable": 29, "error": 1, "removed": 0, "compared": 29}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "keeps the names of weights and classes .* nothing of the images that its models learned from"),
        ({"reference": "self"}, "has 3 images to compare, and 0 errors; expected at least 20"),
        ({"reference": "self", "by": "camera"}, "there is no column 'camera'; there are"),
        ({"reference": "self", "by": "classification_top_scores"}, "expected a column with one value"),
        ({"reference": "self", "model": "dogs"}, "there is no model 'dogs'; there is classification"),
        ({"reference": "self", "max_rows": 9}, "max_rows from 40, got pixels=1000, max_rows=9"),
    ],
)
def test_a_wrong_request_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    size = {"width": [8] * 3, "height": [8] * 3, "image_bytes": [9] * 3}
    output = committed_run(tmp_path, 3, CLASSES, **size, **answers(np.random.default_rng(0), 3))[0]
    if "reference" in options:
        options = {**options, "reference": output}
    with pytest.raises((OutputError, UsageError), match=message):
        measure_drift(output, **options)
    empty = planned(tmp_path / "empty", 1, CLASSES)[0].root
    with pytest.raises(OutputError, match="has 0 images to compare"):
        measure_drift(empty, output)


def test_the_command(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", archive, "--reference", archive, "--by", "folder", "--pixels", "20"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("No difference worth a check was seen in 60 images")
    assert "brightness" in printed
    assert main(["drift", archive, "--reference", archive, "--json", "--pixels", "0", "--where", "row_id < 30"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["flagged"], answer["counts"]["run"]["compared"]) == (False, 30)
    assert cvbatch.measure_drift is measure_drift
