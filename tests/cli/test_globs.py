"""A glob that was not quoted is recognised by what the shell made of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cvbatch.cli.parser import main

QUOTE = "put a glob in quotes, such as --source {}, and write --source before each of several sources"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.tar", "notes.txt", "sub/e.jpg", "other/f.jpg"):
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "job.yaml").write_text("source: {uri: [p/sub, p/other]}")


@pytest.mark.parametrize("command", ["run", "plan", "submit --address http://127.0.0.1:1"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--source p/a.jpg p/b.jpg", "got p/b.jpg: " + QUOTE.format("'p/*.jpg'")),
        ("--source p/a.jpg p/b.jpg p/c.jpg", "got p/b.jpg and 1 more: " + QUOTE.format("'p/*.jpg'")),
        ("--source p/c.jpg p/d.tar", "got p/d.tar: " + QUOTE.format("'p/*'")),
        ("--source p/c.jpg p/notes.txt", "got p/notes.txt: " + QUOTE.format("'p/*'")),
        ("--source p/c.jpg p/notes.txt p/sub", "got p/notes.txt and 1 more: " + QUOTE.format("'p/*'")),
        ("--source p/other p/sub --model m", "got p/sub: " + QUOTE.format("'p/*'")),
        ("job.yaml --source p/a.jpg p/b.jpg", "got p/b.jpg and 1 more: " + QUOTE.format("'p/*.jpg'")),
        ("p/a.jpg p/b.jpg", "got p/a.jpg and 1 more: " + QUOTE.format("'p/*.jpg'")),
        ("p/a.jpg", "got p/a.jpg; images are given with --source p/a.jpg"),
        ("p/sub", "but p/sub is a directory; images are given with --source p/sub"),
    ],
)
def test_matches_in_the_place_of_the_job(
    capsys: pytest.CaptureFixture[str], command: str, arguments: str, expected: str
) -> None:
    assert main(shlex.split(f"{command} {arguments}")) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("cvbatch: expected a job file, ")
    assert expected in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("job.yaml --source p/a.jpg", "job.yaml: models: missing"),
        ("--source p job.yaml", "job.yaml: models: missing"),
        ("--source p/a.jpg nowhere", "cannot read the job file nowhere"),
        ("--source a.jpg notes", "cannot read the job file notes"),
        ("--source p --sped 3", "unrecognized arguments: --sped"),
        ("--source p job.yaml --sped", "unrecognized arguments: --sped"),
    ],
)
def test_what_is_no_glob(capsys: pytest.CaptureFixture[str], arguments: str, expected: str) -> None:
    try:
        code = main(["run", *shlex.split(arguments)])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert expected in capsys.readouterr().err
