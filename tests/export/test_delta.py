"""A Delta table names the files of a run where they are, and follows the run; read with delta-rs itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.errors import OutputError, UsageError
from cvbatch.export.exporting import export_predictions
from cvbatch.output.store import LocalStore
from tests.export.runs import make_run
from tests.samples import planned, spec, started, write

deltalake = pytest.importorskip("deltalake")
ROWS = 40


def row_ids(table: pa.Table) -> list[int]:
    return sorted(table["row_id"].to_pylist())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A run of two files whose location has characters that URIs escape."""
    store, _ = planned(tmp_path / "ä b+c", ROWS)
    log = started(store, ROWS)
    for low in (0, 20):
        log.commit_files(write(log, low, low + 20, failed=[low + 3]))
    return store


def test_a_table_at_the_run_or_above_it_is_read_by_all_of_delta_rs(store: LocalStore) -> None:
    for to in (store.root, str(Path(store.root).parent)):
        report = export_predictions(store.root, "delta", to)
        assert (report.images, report.notes) == (ROWS, {"files added": 4, "files removed": 0})
        assert row_ids(deltalake.DeltaTable(to).to_pyarrow_table()) == list(range(ROWS))
        assert deltalake.DeltaTable(to).to_pyarrow_table(filters=[("row_id", "=", 23)])["status"].to_pylist() == [
            "error"
        ]


def test_a_table_elsewhere_names_absolute_locations(store: LocalStore, tmp_path: Path) -> None:
    to = str(tmp_path / "table")
    export_predictions(store.root, "delta", to)
    query = deltalake.QueryBuilder().register("rows", deltalake.DeltaTable(to))
    assert row_ids(pa.table(query.execute("SELECT row_id FROM rows").read_all())) == list(range(ROWS))


def test_the_table_follows_files_that_are_replaced_and_added(store: LocalStore, tmp_path: Path) -> None:
    to = str(tmp_path / "table")
    for place in (store.root, to):
        export_predictions(store.root, "delta", place)
    again = started(store, ROWS)
    replaced = [file for file in again.state.files.values() if file.errors]
    rows = [row for file in replaced for pair in file.ranges for row in range(*pair)]
    new = [file for row in rows for file in write(again, row, row + 1)]
    again.replace_files([file.path for file in replaced], new, [(row, row + 1) for row in rows])
    for file in replaced:
        store.delete_object(file.path)
    for place in (store.root, to):
        report = export_predictions(store.root, "delta", place)
        assert report.notes == {"files added": 2, "files removed": 2}
        assert export_predictions(store.root, "delta", place).notes == {"files added": 0, "files removed": 0}
        assert deltalake.DeltaTable(place).version() == 1
    statuses = deltalake.DeltaTable(store.root).to_pyarrow_table()["status"].to_pylist()
    assert statuses == ["ok"] * ROWS
    query = deltalake.QueryBuilder().register("rows", deltalake.DeltaTable(to))
    assert row_ids(pa.table(query.execute("SELECT row_id FROM rows").read_all())) == list(range(ROWS))


def test_vacuum_deletes_nothing(store: LocalStore) -> None:
    export_predictions(store.root, "delta", store.root)
    assert deltalake.DeltaTable(store.root).vacuum(dry_run=True) == []


def test_types_that_delta_does_not_have_are_widened(tmp_path: Path) -> None:
    model = spec("vectors", "embedding", dimension=2, dtype="float16")
    output = make_run(tmp_path, (model, {"vector": [np.array([0.5, 2], np.float16)]}))
    export_predictions(output, "delta", output)
    assert deltalake.DeltaTable(output).to_pyarrow_table()["vectors_vector"].to_pylist() == [[0.5, 2]]


def test_a_table_of_something_else_stays_as_it_is(store: LocalStore, tmp_path: Path) -> None:
    to = str(tmp_path / "table")
    deltalake.write_deltalake(to, pa.table({"mine": [1]}))
    with pytest.raises(OutputError, match="has another Delta table: expected none, or one of this run"):
        export_predictions(store.root, "delta", to)
    with pytest.raises(UsageError, match="the format delta registers whole files: expected no model, where"):
        export_predictions(store.root, "delta", store.root, where="row_id > 3")
    assert deltalake.DeltaTable(to).version() == 0


def test_another_process_that_changed_the_table_is_noticed(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_predictions(store.root, "delta", store.root)
    again = started(store, ROWS)
    old = next(iter(again.state.files.values()))
    ((_low, _high),) = old.ranges[:1]
    from cvbatch.export import delta

    class SlowCompare:
        def __call__(self, *arguments: object) -> object:
            monkeypatch.undo()
            table = deltalake.DeltaTable(store.root)
            actions = [deltalake.transaction.RemoveAction(old.path, True, 1)]
            table.create_write_transaction(actions, "append", table.schema())
            return delta.TableChange(added={}, removed=[old.path])

    monkeypatch.setattr(delta, "find_change", SlowCompare())
    with pytest.raises(OutputError, match=r"was changed by another process .* export again"):
        export_predictions(store.root, "delta", store.root)


def test_files_of_a_run_that_goes_on_are_added(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, ROWS)
    log = started(store, ROWS)
    for low in (0, 20):
        log.commit_files(write(log, low, low + 20))
        assert export_predictions(store.root, "delta", store.root).notes == {"files added": 1, "files removed": 0}
        assert row_ids(deltalake.DeltaTable(store.root).to_pyarrow_table()) == list(range(low + 20))
