"""The frame of an evaluation: the model that is meant, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvbatch.cli.parser import main
from cvbatch.errors import OutputError
from cvbatch.evaluation.evaluate import evaluate
from cvbatch.evaluation.report import EvaluationReport, Metrics
from cvbatch.evaluation.tables import render_report
from cvbatch.truth.align import align_truth
from tests.evaluation.generated_objects import generate, write_run, write_truth
from tests.rigs.objects import ObjectServer
from tests.truth.test_align import make_run, truth


def test_a_model_that_is_not_there_is_one_line_with_the_others(tmp_path: Path) -> None:
    root = str(make_run(tmp_path).store.root)
    with pytest.raises(OutputError, match="no model that can be evaluated 'boxes'; it has classification"):
        evaluate(root, "truth.json", model="boxes")


def test_a_report_is_printed_with_all_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    run = make_run(tmp_path, failed=[1])
    metrics = {"boxes": Metrics(images=1, values={"AP": 0.5, "n": 1234, "AP small": None}, intervals={"AP": (0.4, 1)})}
    report = EvaluationReport(
        output="out",
        model="m",
        task="detection",
        truth="t.json",
        layout="a list",
        alignment=align_truth(run, truth("a/1.jpg", "a/2.jpg", "b/9.jpg")),
        notes=["a note"],
        metrics=metrics,
        by="folder",
        slices={"/p/a": metrics},
    )
    Console(width=120).print(render_report(report))
    printed = capsys.readouterr().out
    for text in (
        "m (detection) against t.json (a list)",
        "images judged: 1 of 3, matched by path",
        "truth without a row: 1 of 3, such as b/9.jpg",
        "truth whose row has an error: 1 of 3",
        "rows without truth: 3 of 5, such as /p/s.tar#c/3.jpg",
        "a note",
        "0.5000",
        "0.4000 … 1",
        "1,234",
        "boxes by folder",
    ):
        assert text in printed
    answer = report.to_json()
    assert answer["metrics"]["boxes"] == {
        "images": 1,
        "values": {"AP": 0.5, "n": 1234, "AP small": None},
        "intervals": {"AP": [0.4, 1]},
    }
    assert answer["slices"]["/p/a"] == answer["metrics"]


def test_the_command_prints_tables_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, results = generate(6)
    write_run(tmp_path, 6, results)
    given = ["evaluate", str(tmp_path / "out"), "--truth", str(write_truth(tmp_path, truth)), "--by", "folder"]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert "boxes (detection) against" in printed
    assert "boxes: kinds of error, 6 images" in printed
    assert main([*given, "--json", "--min-score", "0.5", "--classes", "dog,kite"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["metrics"]["boxes"]["per_class"].keys() == {"dog", "kite"}
    assert answer["slices"].keys() == {"/data/photos"}
    assert answer["alignment"]["images"] == 6


def test_wrong_truth_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, 1, [])
    (tmp_path / "truth.json").write_text("[1]")
    for path in (tmp_path / "truth.json", tmp_path / "none.json"):
        assert main(["evaluate", str(tmp_path / "out"), "--truth", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_run_and_truth_in_a_bucket(tmp_path: Path, as_job: ObjectServer, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, results = generate(6)
    write_run(tmp_path, 6, results)
    root, bucket = tmp_path / "out", as_job.make_bucket()
    files = {f"labels/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    as_job.put(bucket, {**files, "truth.json": json.dumps(annotations).encode()})
    storage = {"endpoint_url": as_job.endpoint}
    report = evaluate(f"s3://{bucket}/labels", f"s3://{bucket}/truth.json", storage=storage)
    local = evaluate(str(root), str(write_truth(tmp_path, annotations)))
    assert report.metrics["boxes"].values == local.metrics["boxes"].values
    given = ["evaluate", f"s3://{bucket}/labels", "--storage", f"endpoint_url={as_job.endpoint}"]
    assert main([*given, "--truth", f"s3://{bucket}/none.json"]) == 2
    assert "none.json: expected a file with truth; no such object" in capsys.readouterr().err
