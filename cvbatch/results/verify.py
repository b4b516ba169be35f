"""The proof: plan against log and manifest against the data files themselves."""

from __future__ import annotations

from collections.abc import Iterator
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
    """What `verify_output` found."""

    planned: int
    committed: int
    errors: int
    files: int
    finished: bool
    problems: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    """Data files that no record accepted; harmless for `cvbatch.read`, collected by the next `run`."""

    @property
    def is_proven(self) -> bool:
        """Whether every planned row is there exactly once, and nothing contradicts that."""
        return self.finished and not self.problems and not self.strays


def verify_output(store: Store, log: CommitLog, *, deep: bool = False) -> VerifyReport:
    """Check a run.

    Args:
        store: The output.
        log: Its commit log.
        deep: Read the rows of every file too, not only its footer.
    """
    state = log.state
    verdict = VerifyReport(
        planned=state.planned,
        committed=len(state.accepted),
        errors=state.errors.total(),
        files=len(state.files),
        finished=is_finished(store, state),
    )
    there = store.list_sizes(DATA_FOLDER)
    unknown = [path for path in there if path not in state.files]
    verdict.strays = [path for path in unknown if epoch_of_path(path) is not None]
    verdict.problems += [f"{path} is not of this run; move it away" for path in unknown if epoch_of_path(path) is None]
    verdict.problems += _plan_problems(store, state)
    verdict.problems += [
        f"rows {low} to {high - 1} are missing" for low, high in state.accepted.missing_ranges(state.planned)
    ]
    verdict.problems += [f"rows {low} to {high - 1} are of images that changed since" for low, high in state.stale]
    verdict.problems += _manifest_problems(store, log)
    seen = RowRanges()
    for file in state.files.values():
        if file.path not in there:
            verdict.problems.append(f"{file.path} is missing")
        elif there[file.path] != file.size:
            verdict.problems.append(f"{file.path} has {there[file.path]} bytes, expected {file.size}")
        else:
            verdict.problems += _file_problems(store, file, seen, deep=deep)
    return verdict


def _plan_problems(store: Store, state: RunState) -> Iterator[str]:
    plan = load_plan(store)
    expected = 0
    for part in [*plan.parts, *state.parts] if plan else []:
        try:
            with store.open_object(part["path"]) as opened:
                rows = pq.read_metadata(opened).num_rows
        except (OSError, pa.ArrowException) as error:
            yield f"{part['path']} cannot be read: {str(error).splitlines()[0]}"
            continue
        if (part["first_row_id"], rows) != (expected, part["rows"]):
            yield f"{part['path']} has {rows} rows from {part['first_row_id']}, expected {part['rows']} from {expected}"
        expected = part["first_row_id"] + part["rows"]


def _manifest_problems(store: Store, log: CommitLog) -> Iterator[str]:
    if not log.state.is_final:
        yield "the run is not finished; the same cvbatch run goes on"
        return
    name = manifest_name(log.state.next_seq - 1)
    latest = latest_manifest(store)
    if latest is None or manifest_name(latest.final) != name:
        yield f"{name} is missing; cvbatch run writes it"
    elif {file.path: file for file in latest.files} != log.state.files:
        yield f"{name} does not agree with the log"
    if read_success_mark(store) != name:
        yield f"_SUCCESS does not name {name}; cvbatch run mends it"


def _file_problems(store: Store, file: DataFile, seen: RowRanges, *, deep: bool) -> Iterator[str]:
    try:
        with store.open_object(file.path) as opened, pq.ParquetFile(opened, page_checksum_verification=True) as parquet:
            if parquet.metadata.num_rows != file.row_count:
                yield f"{file.path} has {parquet.metadata.num_rows} rows, expected {file.row_count}"
            if absent := {ROW_ID, STATUS} - set(parquet.schema_arrow.names):
                yield f"{file.path} has no column {', '.join(sorted(absent))}"
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
            seen.add_range(low, high)
    except ValueError as error:
        yield f"{file.path}: {error}"
        return
    if tuple(ranges) != file.ranges:
        yield f"{file.path} holds other rows than the log says"
