"""A report is one folder, on a disk or in a bucket; a second call changes only what is new."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import cvbatch
from cvbatch.cli import main
from cvbatch.errors import OutputError, UsageError
from cvbatch.output.row_ranges import ranges_of_rows
from cvbatch.results.answer_files import AnswerRecord, place_answer
from tests.report.runs import BYTES_NAME, MESSAGE, NASTY_NAME, OTHER, SmallRun, small_run
from tests.rigs.objects import ObjectServer

NAMES = [BYTES_NAME, NASTY_NAME.encode(), *(f"{row:02d}.jpg".encode() for row in range(6))]

FAR = [f"{row:02d}.jpg".encode() for row in range(24)]


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    return small_run(tmp_path, NAMES, failed={4: OTHER})


def state_of(folder: str) -> dict[str, int]:
    """When each file was written."""
    return {os.fspath(path.relative_to(folder)): path.stat().st_mtime_ns for path in Path(folder).rglob("*.*")}


def test_a_second_call_changes_nothing(run: SmallRun) -> None:
    answer = cvbatch.write_report(run.output)
    assert answer.path == f"{run.output}/_report/index.html"
    assert (answer.images, answer.thumbnails, answer.drawn) == (8, 7, 7)
    before = state_of(f"{run.output}/_report")
    assert len(before) == 8
    again = cvbatch.write_report(run.output)
    assert (again.drawn, again.removed, again.bytes) == (0, 0, answer.bytes)
    assert state_of(f"{run.output}/_report") == before


def test_a_report_that_was_interrupted_draws_only_the_rest(run: SmallRun) -> None:
    def stop(done: int, images: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cvbatch.write_report(run.output, report=stop)
    assert os.listdir(f"{run.output}/_report") == ["thumbnails"], "no page before its pictures"
    before = state_of(f"{run.output}/_report")
    assert len(before) == 3
    assert cvbatch.write_report(run.output).drawn == 7 - 3
    assert before.items() <= state_of(f"{run.output}/_report").items()


def test_fewer_images_remove_pictures_and_nothing_else(run: SmallRun) -> None:
    cvbatch.write_report(run.output)
    Path(run.output, "_report/thumbnails/mine.txt").touch()
    answer = cvbatch.write_report(run.output, images=3)
    assert (answer.images, answer.removed) == (3, 7 - answer.thumbnails + answer.drawn)
    assert len(os.listdir(f"{run.output}/_report/thumbnails")) == answer.thumbnails + 1


def test_readers_and_verify_do_not_see_the_report(run: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", run.output, "--json"])
    before = capsys.readouterr().out
    cvbatch.write_report(run.output)
    assert len(cvbatch.read(run.output)) == 8
    main(["verify", run.output, "--json"])
    assert capsys.readouterr().out == before


def test_the_page_holds_no_markup_of_the_run(run: SmallRun) -> None:
    page = Path(cvbatch.write_report(run.output).path).read_text()
    assert NASTY_NAME not in page
    assert MESSAGE not in page
    assert "__proto__" in page


def test_the_command_prints_a_link_and_as_json_the_counts(run: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", run.output, "--to", f"{run.output}-page"]) == 0
    assert capsys.readouterr().out.endswith(f"report: file://{run.output}-page/index.html\n")
    assert main(["report", run.output, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["path"], answer["images"]) == (f"{run.output}/_report/index.html", 8)


def test_a_picture_comes_first(run: SmallRun, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 2400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "sheet.png")
    cvbatch.write_report(run.output, picture=str(tmp_path / "sheet.png"))
    picture = Path(run.output, "_report/picture.webp")
    assert picture.stat().st_size <= 350_000
    assert "picture.webp" in Path(run.output, "_report/index.html").read_text()
    with pytest.raises(UsageError, match=r"none\.png cannot be read as a picture"):
        cvbatch.write_report(run.output, picture=str(tmp_path / "none.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "expected from 1 to 1000 images, got 0"),
        ({"to": "{output}"}, "is the output itself"),
        ({"to": "{root}/page"}, "would take it for images: choose another place with --to"),
        ({"to": "{root}/00.jpg"}, "expected a folder for the report, got the file"),
        ({"cluster": True}, "expected RAY_ADDRESS to name a cluster"),
    ],
)
def test_wrong_options_are_one_line(
    run: SmallRun, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    filled = {
        name: value.format(output=run.output, root=run.root) if isinstance(value, str) else value
        for name, value in options.items()
    }
    with pytest.raises(UsageError, match=message):
        cvbatch.write_report(run.output, **filled)


def test_a_place_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        cvbatch.write_report(str(tmp_path / "nothing"))


def test_images_that_look_alike_are_a_section(tmp_path: Path) -> None:
    vectors = np.eye(8, 40)
    vectors[6] = vectors[1] * 2
    run = small_run(tmp_path, NAMES, vectors=vectors)
    shutil.copy(run.files[3], run.files[2])
    answer = cvbatch.write_report(run.output)
    assert answer.sections == ["Duplicates"]
    page = Path(answer.path).read_text()
    assert "2 images that look alike" in page
    assert "compared for this page" in page


def test_an_answer_of_another_command_is_shown_and_that_of_another_run_is_not(run: SmallRun) -> None:
    table = pa.table({"row_id": [0, 1, 2, 5], "group": [0, 0, 2, 2], "cosine": [1.0, 0.99, 1.0, 0.98]})
    file = place_answer(run.opened, run.output, "duplicates", None, None)
    paths = tuple(data.path for data in run.opened.committed_files().files)
    file.write(table, AnswerRecord("duplicates", {}, paths, tuple(ranges_of_rows(np.arange(8)))))
    page = Path(cvbatch.write_report(run.output).path).read_text()
    assert "From the answer of cvbatch duplicates." in page
    file.write(table, AnswerRecord("duplicates", {}, ("data/other.parquet",), ()))
    assert cvbatch.write_report(run.output).sections == []


def test_a_reference_over_the_same_images_and_one_over_others(run: SmallRun, tmp_path: Path) -> None:
    other = small_run(tmp_path, NAMES, output="other")
    answer = cvbatch.write_report(run.output, reference=other.output)
    assert answer.sections == ["Comparison: tags", "Comparison: boxes", "Comparison: vectors"]
    far = [small_run(tmp_path / name, FAR, seed=seed) for name, seed in (("near", 100), ("far", 200))]
    answer = cvbatch.write_report(far[0].output, reference=far[1].output)
    assert answer.sections == ["Drift"]
    assert "24 images against 24 of the reference" in Path(answer.path).read_text()
    with pytest.raises(OutputError, match="expected at least 20"):
        cvbatch.write_report(run.output, reference=far[1].output)


def test_truth_gives_an_evaluation_with_examples(run: SmallRun, tmp_path: Path) -> None:
    answers = cvbatch.read(run.output, where="status = 'ok'")
    names = answers.image_uri.str.rsplit("/", n=1).str[1]
    wrong = answers.tags_label.where(answers.row_id != 5, "dog")
    lines = [f"{name},{label}" for name, label in zip(names, wrong, strict=True) if "x" not in name]
    (tmp_path / "truth.csv").write_text("\n".join(["image,label", *lines]))
    answer = cvbatch.write_report(run.output, truth=str(tmp_path / "truth.csv"))
    assert answer.sections == ["Evaluation: tags"]
    assert "dog taken for __proto__: 1" in Path(answer.path).read_text()
    with pytest.raises(UsageError):
        cvbatch.write_report(run.output, truth=run.files[0])


@pytest.mark.usefixtures("as_job")
def test_a_report_in_a_bucket(run: SmallRun, object_server: ObjectServer) -> None:
    bucket = object_server.make_bucket("out")
    storage = {"endpoint_url": object_server.endpoint}
    place = f"s3://{bucket}/runs/page"
    answer = cvbatch.write_report(run.output, to=place, storage=storage)
    assert (answer.path, answer.link, answer.drawn) == (f"{place}/index.html", None, 7)
    again = cvbatch.write_report(run.output, to=place, storage=storage, images=4)
    listed = object_server.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert len(listed) == again.thumbnails + 1
