"""Outputs of the version before plan parts had a suffix of their own (commit d749192) are gone on with.

`older_outputs.tar.xz` was made by that version of `FakeEngine`, from six photos below `/archive/photos`:

- `finished`: planned with a limit of four, then without, then updated after `0004.jpg` had changed; row 1 is an error
- `half`: interrupted after its first commit
- `retried`: finished with errors in rows 1 and 2; `retry` was interrupted after its first file
"""

from __future__ import annotations

import socket
import tarfile
from pathlib import Path
from typing import Final

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cvbatch.pipeline import retry, run
from cvbatch.planning.parts import PARTS
from cvbatch.results import predictions
from tests.samples import photos
from tests.test_pipeline import Output, Seen

ROWS: Final = 6


def older(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Output:
    """One of them, as if its photos had always been below this folder and its driver had died on this machine."""
    with tarfile.open(Path(__file__).with_name("older_outputs.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    (folder / name).rename(folder / "out")
    state = folder / "out" / "_cvbatch"
    for path in state.rglob("*.json"):
        text = path.read_text().replace("/archive/", f"{folder}/")
        path.write_text(text.replace('"host": "vm"', f'"host": "{socket.gethostname()}"'))
    for path in state.rglob("*.parquet"):
        table = pq.read_table(path)
        uris = pc.replace_substring(table["image_uri"], "/archive", str(folder))
        at = table.column_names.index("image_uri")
        pq.write_table(table.set_column(at, table.schema.field(at), uris), path)
    output = Output(folder, monkeypatch)
    for path in output.source.iterdir():
        path.unlink()
    photos(output.source, ROWS)
    if name == "finished":
        (output.source / "0004.jpg").write_bytes(b"changed")
    return output


def suffixes(output: Output) -> set[str]:
    return {Path(name).suffix for name in output.store.sizes(PARTS)}


def test_a_finished_one_is_read_and_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = older(tmp_path, "finished", monkeypatch)
    assert output.proven
    frame = predictions.read(output.store.root)
    assert frame["status"].tolist() == ["ok", "error", *["ok"] * 4]
    assert run(output.job(), Seen()).epoch == 3
    assert not output.engines, "it is finished"


def test_a_finished_one_is_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = older(tmp_path, "finished", monkeypatch)
    (output.source / "0007.jpg").write_bytes(b"new")
    (output.source / "0000.jpg").unlink()
    state = run(output.job(), Seen(), refresh=True)
    assert (state.planned, list(state.removed)) == (ROWS + 1, [(0, 1)])
    assert output.labelled_by(4)[-1] == ROWS
    assert suffixes(output) == {".parquet", ".plan"}
    assert output.proven


def test_half_of_one_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = older(tmp_path, "half", monkeypatch)
    before = output.labelled_by(1)
    assert 0 < len(before) < ROWS
    run(output.job(), Seen())
    assert output.labelled_by(1) == before
    assert len(output.labelled_by(2)) == ROWS - len(before)
    assert output.proven


@pytest.mark.parametrize("first", ["run", "retry"])
def test_half_of_a_retry_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    output = older(tmp_path, "retried", monkeypatch)
    if first == "run":
        run(output.job(), Seen())
        assert output.proven
        assert predictions.read(output.store.root)["status"].tolist().count("error") == 2
    state = retry(output.store.root, "all", Seen())
    assert not state.errors.total()
    assert output.labelled_by(state.epoch) == [1, 2]
    assert output.proven
