"""An Iceberg table names the files of a run where they are, and follows the run; read with pyiceberg itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvbatch.errors import OutputError, UsageError
from cvbatch.export.exporting import export_predictions
from cvbatch.output.store import LocalStore
from tests.export.runs import make_run
from tests.samples import planned, spec, started, write

pytest.importorskip("pyiceberg.catalog.sql")
ROWS = 40


def load_table(folder: str) -> Any:
    from pyiceberg.catalog.sql import SqlCatalog

    catalogue = SqlCatalog("cvbatch", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder)
    try:
        return catalogue.load_table("cvbatch.predictions")
    finally:
        catalogue.close()


def row_ids(folder: str) -> list[int]:
    return sorted(load_table(folder).scan(selected_fields=("row_id",)).to_arrow()["row_id"].to_pylist())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A run of two times two files whose location has characters that URIs escape."""
    store, _ = planned(tmp_path / "ä b%20", ROWS)
    log = started(store, ROWS)
    for low in (0, 20):
        log.commit_files(write(log, low, low + 20, failed=[low + 3]))
    return store


def test_the_table_follows_files_that_are_replaced_and_added(store: LocalStore, tmp_path: Path) -> None:
    to = str(tmp_path / "table ü")
    report = export_predictions(store.root, "iceberg", to)
    assert (report.images, report.notes) == (ROWS, {"files added": 4, "files removed": 0})
    assert row_ids(to) == list(range(ROWS))
    again = started(store, ROWS)
    replaced = [file for file in again.state.files.values() if file.errors]
    rows = [row for file in replaced for pair in file.ranges for row in range(*pair)]
    new = [file for row in rows for file in write(again, row, row + 1)]
    again.replace_files([file.path for file in replaced], new, [(row, row + 1) for row in rows])
    for file in replaced:
        store.delete_object(file.path)
    assert export_predictions(store.root, "iceberg", to).notes == {"files added": 2, "files removed": 2}
    assert export_predictions(store.root, "iceberg", to).notes == {"files added": 0, "files removed": 0}
    table = load_table(to)
    assert len(table.history()) == 2
    assert table.scan().to_arrow()["status"].to_pylist() == ["ok"] * ROWS
    assert row_ids(to) == list(range(ROWS))
    planned_files = list(table.scan(row_filter="row_id = 21").plan_files())
    assert len(planned_files) == 1, "the bounds of row ids say which file it is in"


def test_types_that_iceberg_does_not_have(tmp_path: Path) -> None:
    model = spec("vectors", "embedding", dimension=2, dtype="float16")
    output = make_run(tmp_path, (model, {"vector": [np.array([0.5, 2], np.float16)]}))
    export_predictions(output, "iceberg", str(tmp_path / "table"))
    assert load_table(str(tmp_path / "table")).scan().to_arrow()["vectors_vector"].to_pylist() == [[0.5, 2]]


def test_a_table_of_something_else_stays_as_it_is(store: LocalStore, tmp_path: Path) -> None:
    to = tmp_path / "table"
    export_predictions(make_run(tmp_path, (spec(), {"label": ["a"]})), "iceberg", str(to))
    with pytest.raises(OutputError, match="has the table of another run: expected none, or this run's"):
        export_predictions(store.root, "iceberg", str(to))
    assert row_ids(str(to)) == [0]
    with pytest.raises(UsageError, match="the format iceberg registers whole files"):
        export_predictions(store.root, "iceberg", str(to), min_score=0.5)
    (to / "catalog.db").write_text("no database")
    with pytest.raises(OutputError, match=r"catalog\.db: expected a catalogue"):
        export_predictions(store.root, "iceberg", str(to))


def test_another_process_that_changed_the_table_is_noticed(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvbatch.export import iceberg

    to = str(tmp_path / "table")
    export_predictions(store.root, "iceberg", to)
    again = started(store, ROWS)
    old = next(iter(again.state.files.values()))
    again.replace_files([old.path], write(again, *old.ranges[0]) + write(again, *old.ranges[-1]), old.ranges)
    find_change = iceberg.find_change

    def find_slowly(*arguments: Any) -> Any:
        monkeypatch.undo()
        export_predictions(store.root, "iceberg", to)
        return find_change(*arguments)

    monkeypatch.setattr(iceberg, "find_change", find_slowly)
    with pytest.raises(OutputError, match=r"was changed by another process .* export again"):
        export_predictions(store.root, "iceberg", to)
    assert row_ids(to) == list(range(ROWS))


def test_files_of_a_run_that_goes_on_are_added(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, ROWS)
    log, to = started(store, ROWS), str(tmp_path / "table")
    for low in (0, 20):
        log.commit_files(write(log, low, low + 20))
        assert export_predictions(store.root, "iceberg", to).notes == {"files added": 1, "files removed": 0}
        assert row_ids(to) == list(range(low + 20))
