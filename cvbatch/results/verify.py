"""Verifying an output: compares the plan, the log, the manifest and the data files."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import DataFile, RunState, epoch_of_path
from cvbatch.output.manifest import DATA_FOLDER, is_finished, latest_manifest, manifest_name, read_success_mark
from cvbatch.output.row_ranges import RowRanges, ranges_of_rows
from cvbatch.output.store import Store
from cvbatch.planning.plan import load_plan
from cvbatch.schema import ERROR, ROW_ID, STATUS


@dataclass(slots=True)
class VerifyReport:
    """Result of `verify_output`."""

    planned: int
    committed: int
    errors: int
    files: int
    finished: bool
    problems: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    """Data files that no record names; `cvbatch.read` ignores them and the next `run` deletes them."""

    @property
    def is_proven(self) -> bool:
        """Whether the run is finished and every planned row exists exactly once."""
        return self.finished and not self.problems and not self.strays


def verify_output(store: Store, log: CommitLog, *, deep: bool = False) -> VerifyReport:
    """Verify a run.

    Args:
        store: The output.
        log: Its commit log.
        deep: Read all columns of every file, not only row ids and status.
    """
    state = log.state
    report = VerifyReport(
        planned=state.planned,
        committed=len(state.accepted),
        errors=state.errors.total(),
        files=len(state.files),
        finished=is_finished(store, state),
    )
    sizes = store.list_sizes(DATA_FOLDER)
    unnamed = [path for path in sizes if path not in state.files]
    report.strays = [path for path in unnamed if epoch_of_path(path) is not None]
    foreign_paths = [path for path in unnamed if epoch_of_path(path) is None]
    report.problems += [f"{path} does not belong to this run; move it away" for path in foreign_paths]
    report.problems += _plan_problems(store, state)
    missing_ranges = state.accepted.missing_ranges(state.planned)
    report.problems += [f"rows {low} to {high - 1} are missing" for low, high in missing_ranges]
    report.problems += [f"rows {low} to {high - 1} are of images that have changed" for low, high in state.stale]
    report.problems += _manifest_problems(store, log)
    verified_rows, columns = RowRanges(), _required_columns(store, state)
    for file in state.files.values():
        if file.path not in sizes:
            report.problems.append(f"{file.path} is missing")
        elif sizes[file.path] != file.size:
            report.problems.append(f"{file.path} has {sizes[file.path]} bytes, expected {file.size}")
        else:
            report.problems += _file_problems(store, file, verified_rows, columns, deep=deep)
    return report


def _required_columns(store: Store, state: RunState) -> set[str]:
    """Columns that each file must have; those of the models only where files were written anew for them."""
    plan = load_plan(store) if state.plan_file is not None else None
    models = plan.models if plan is not None else ()
    return {ROW_ID, STATUS, *(column.name for model in models for column in model.column_fields())}


def _plan_problems(store: Store, state: RunState) -> Iterator[str]:
    plan = load_plan(store)
    next_row_id = 0
    for part in [*plan.parts, *state.parts] if plan else []:
        path, first_row_id = part["path"], part["first_row_id"]
        try:
            with store.open_object(path) as file:
                rows = pq.read_metadata(file).num_rows
        except (OSError, pa.ArrowException) as error:
            yield f"{path} cannot be read: {str(error).splitlines()[0]}"
            continue
        if (first_row_id, rows) != (next_row_id, part["rows"]):
            yield f"{path} has {rows} rows from {first_row_id}, expected {part['rows']} from {next_row_id}"
        next_row_id = first_row_id + part["rows"]


def _manifest_problems(store: Store, log: CommitLog) -> Iterator[str]:
    if not log.state.is_final:
        yield "the run is not finished; continue it with the same cvbatch run"
        return
    name = manifest_name(log.state.next_seq - 1)
    latest = latest_manifest(store)
    if latest is None or manifest_name(latest.final) != name:
        yield f"{name} is missing; cvbatch run writes it"
    elif {file.path: file for file in latest.files} != log.state.files:
        yield f"{name} does not agree with the log"
    if read_success_mark(store) != name:
        yield f"_SUCCESS does not name {name}; cvbatch run repairs it"


def _file_problems(
    store: Store, file: DataFile, verified_rows: RowRanges, columns: Set[str], *, deep: bool
) -> Iterator[str]:
    try:
        with store.open_object(file.path) as data, pq.ParquetFile(data, page_checksum_verification=True) as parquet:
            if parquet.metadata.num_rows != file.row_count:
                yield f"{file.path} has {parquet.metadata.num_rows} rows, expected {file.row_count}"
            if missing_columns := columns - set(parquet.schema_arrow.names):
                yield f"{file.path} has no column {', '.join(sorted(missing_columns))}"
                return
            table = parquet.read(columns=None if deep else [ROW_ID, STATUS])
    except (OSError, pa.ArrowException) as error:
        yield f"{file.path} cannot be read: {str(error).splitlines()[0]}"
        return
    failed = pc.sum(pc.equal(table[STATUS], ERROR)).as_py() or 0
    if failed != sum(file.errors.values()):
        yield f"{file.path} has {failed} error rows, expected {sum(file.errors.values())}"
    try:
        ranges = ranges_of_rows(table[ROW_ID].to_numpy())
        for low, high in ranges:
            verified_rows.add_range(low, high)
    except ValueError as error:
        yield f"{file.path}: {error}"
        return
    if tuple(ranges) != file.ranges:
        yield f"{file.path} does not hold the rows that the log names"
