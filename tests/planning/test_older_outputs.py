"""Outputs of earlier versions are read, proven and gone on with.

Each archive in `older_outputs/` was made by the `FakeEngine` of a version, from six photos below `/archive/photos`:

- `finished`: planned with a limit of four, then without, then updated after `0004.jpg` had changed; row 1 is an error
- `half`: interrupted after its first commits
- `retried`: finished with errors in rows 1 and 2; `retry` was interrupted before it had replaced both
"""

from __future__ import annotations

import json
import socket
import tarfile
from pathlib import Path
from typing import Final

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cvbatch.inference.settings import InferenceSettings
from cvbatch.output.commit_log import LOG_FOLDER, CommitLog
from cvbatch.planning.parts import PARTS_FOLDER
from cvbatch.planning.plan import PLAN_FILE, open_run
from cvbatch.results import predictions
from cvbatch.results.summary import run_status, summarize_run
from cvbatch.runs.run_record import load_record
from cvbatch.tuning.certificate import load_run_settings
from tests.samples import photos
from tests.test_pipeline import Output

ROWS: Final = 6
ARCHIVES: Final = sorted(Path(__file__).with_name("older_outputs").glob("*.tar.xz"))
WITH_FORMATS: Final = {"95aa14d"}
"""Versions whose records name their format."""
REPLACED: Final = {"d749192": 0}
"""Errors that the half `retry` had replaced, where that is not one."""


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def archive(request: pytest.FixtureRequest) -> Path:
    """The outputs of one version."""
    path: Path = request.param
    return path


def older(archive: Path, folder: Path, name: str) -> Output:
    """One of them, as if its photos had always been below this folder and its driver had died on this machine."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (folder / name).rename(folder / "out")
    state = folder / "out" / "_cvbatch"
    for path in state.rglob("*.json"):
        text = path.read_text().replace("/archive/", f"{folder}/")
        path.write_text(text.replace('"host": "vm"', f'"host": "{socket.gethostname()}"'))
    for path in (state / "plan").iterdir():
        table = pq.read_table(path)
        uris = pc.replace_substring(table["image_uri"], "/archive", str(folder))
        at = table.column_names.index("image_uri")
        pq.write_table(table.set_column(at, table.schema.field(at), uris), path)
    output = Output(folder)
    for path in output.source.iterdir():
        path.unlink()
    photos(output.source, ROWS)
    if name == "finished":
        (output.source / "0004.jpg").write_bytes(b"changed")
    return output


def suffixes(output: Output) -> set[str]:
    return {Path(name).suffix for name in output.store.list_sizes(PARTS_FOLDER)}


def test_all_versions_are_there() -> None:
    assert [path.name for path in ARCHIVES] == ["3183bbf.tar.xz", "95aa14d.tar.xz", "d749192.tar.xz"]


def test_a_finished_run_is_read_and_verified(archive: Path, tmp_path: Path) -> None:
    output = older(archive, tmp_path, "finished")
    assert output.proven
    frame = predictions.read(output.store.root)
    assert frame["status"].tolist() == ["ok", "error", *["ok"] * 4]
    assert output.run(output.job()).epoch == 3
    assert not output.engines, "it is finished"


def test_a_finished_run_is_summarized(archive: Path, tmp_path: Path) -> None:
    output = older(archive, tmp_path, "finished")
    summary = summarize_run(output.store.root, output.log.state)
    assert (summary["rows"], summary["errors"], summary["finished"]) == (ROWS, {"TruncatedImage": 1}, True)
    assert run_status(output.store.root, output.log)["starts"] == 3
    assert load_record(output.store).get("rows_committed", ROWS) == ROWS
    _, plan = open_run(output.store.root)
    assert CommitLog(output.store, plan.rows).state == output.log.state, "a snapshot says the same"


def test_later_attempts_write_current_formats(archive: Path, tmp_path: Path) -> None:
    output = older(archive, tmp_path, "half")
    plan = output.store.read_object(PLAN_FILE)
    output.run(output.job())
    assert output.store.read_object(PLAN_FILE) == plan
    formats = [json.loads(output.store.read_object(name)).get("format") for name in output.store.list_sizes(LOG_FOLDER)]
    before = formats.count(None)
    assert formats == [*[None] * before, *["1.0"] * (len(formats) - before)]
    assert before < len(formats)
    assert (before > 0) == (archive.name.partition(".")[0] not in WITH_FORMATS)


def test_chosen_settings_are_reused(archive: Path, tmp_path: Path) -> None:
    output = older(archive, tmp_path, "half")
    found = load_run_settings(output.store)
    if archive.name.startswith("d749192"):
        assert found is None, "it chose none"
        return
    assert found is not None
    assert (found.setting, found.has_enough_images) == (InferenceSettings("bf16"), True)
    assert found.measured_rates() == {"decode_per_core": 9.0, "predict": 2.0, "together": 2.0}


def test_a_finished_run_is_updated(archive: Path, tmp_path: Path) -> None:
    output = older(archive, tmp_path, "finished")
    (output.source / "0007.jpg").write_bytes(b"new")
    (output.source / "0000.jpg").unlink()
    state = output.run(output.job(), refresh=True)
    assert (state.planned, list(state.removed)) == (ROWS + 1, [(0, 1)])
    assert output.labelled_by(4)[-1] == ROWS
    assert ".plan" in suffixes(output)
    assert output.proven


def test_an_unfinished_run_is_resumed(archive: Path, tmp_path: Path) -> None:
    output = older(archive, tmp_path, "half")
    before = output.labelled_by(1)
    assert 0 < len(before) < ROWS
    output.run(output.job())
    assert output.labelled_by(1) == before
    assert len(output.labelled_by(2)) == ROWS - len(before)
    assert output.proven


@pytest.mark.parametrize("first", ["run", "retry"])
def test_an_unfinished_retry_is_resumed(archive: Path, tmp_path: Path, first: str) -> None:
    output = older(archive, tmp_path, "retried")
    replaced = REPLACED.get(archive.name.partition(".")[0], 1)
    if first == "run":
        output.run(output.job())
        assert output.proven
        errors = predictions.read(output.store.root)["status"].tolist().count("error")
        assert errors == 2 - replaced
    state = output.retry("all")
    assert not state.errors.total()
    assert output.labelled_by(2) == [1][:replaced]
    assert output.labelled_by(state.epoch) == [1, 2][replaced:]
    assert output.proven
