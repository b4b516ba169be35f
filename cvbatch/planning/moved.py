"""Moves of a source: the same images, by name and size, are at a new location."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.job import Job
from cvbatch.errors import OutputError, SourceError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.output.row_ranges import ranges_of_rows
from cvbatch.output.store import Store
from cvbatch.planning.find_moved import SourceMove, find_moved_images
from cvbatch.planning.parts import Part, read_plan_part, write_part
from cvbatch.planning.plan import Plan, uris_as_list
from cvbatch.schema import IMAGE_URI, MOVED_FROM, ROW_ID
from cvbatch.sources.entries import ImageSource
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.options import OPTION_NAMES

_WAY: Final = (*OPTION_NAMES, "http_hosts", "http_private")
"""Options for reaching a source; not part of a run's identity."""


def current_uris(plan: Plan, state: RunState) -> tuple[str, ...]:
    """Current locations of the sources, according to the plan and the log."""
    uris = uris_as_list(plan.identity["source"]["uri"])
    for part in state.move_parts:
        new_uris = dict(part["places"])
        uris = [new_uris.get(uri, uri) for uri in uris]
    return tuple(uris)


def identity_with_uris(plan: Plan, uris: Sequence[str]) -> dict[str, Any]:
    """Identity of a run with other locations of its sources."""
    source = {**plan.identity["source"], "uri": list(uris) if len(uris) > 1 else uris[0]}
    return {**plan.identity, "source": source}


def current_job(plan: Plan, state: RunState) -> Job:
    """The job of a run, with the current locations of its sources."""
    if not state.move_parts:
        return _job_of_plan(plan.job)
    uris = current_uris(plan, state)
    uri = list(uris) if len(uris) > 1 else uris[0]
    return _job_of_plan({**plan.job, "source": {**plan.job["source"], **state.move_parts[-1]["way"], "uri": uri}})


def _job_of_plan(data: Mapping[str, Any]) -> Job:
    """Job of a plan; options of newer versions are ignored, because the identity has them and is compared later."""
    return Job.model_validate(data, extra="ignore")


def find_requested_move(plan: Plan, state: RunState, job: Job, moved_from: Sequence[str]) -> SourceMove | None:
    """The move that the job and `--moved-from` request.

    Returns:
        None if no source has moved, or if the log already contains the move: the same command may be repeated.

    Raises:
        SourceError: If the run never had a source at an old location, or if the job still names that location.
    """
    uris, requested_uris = current_uris(plan, state), uris_as_list(job.identity()["source"]["uri"])
    requested_uri_of = dict(zip(uris, requested_uris, strict=False))
    earlier_uris = {old.rstrip("/") for part in state.move_parts for old, _ in part["places"]}
    uri_without_slash = {uri.rstrip("/"): uri for uri in uris}
    new_uris = {}
    for option in moved_from:
        old = (to_local_path(option) or option).rstrip("/") or "/"
        uri = uri_without_slash.get(old)
        if uri is not None and len(uris) == len(requested_uris) and requested_uri_of[uri] != uri:
            new_uris[uri] = requested_uri_of[uri]
        elif old not in earlier_uris or tuple(requested_uris) != uris:
            reason = "the job still names this location" if uri is not None else "this run never had this source"
            raise SourceError(
                f"--moved-from {option}: {reason}; its images are at {', '.join(uris)}: expected that location after "
                "--moved-from, and the new location as source.uri"
            )
    return SourceMove(uris, tuple(new_uris.get(uri, uri) for uri in uris)) if new_uris else None


class PlannedMove:
    """A verified move of a source, ready to be appended to the log.

    Args:
        store: The output.
        plan: Plan of the run.
        state: State of its log, before the attempt opens it.
        job: Names the new location.
        source: The source, opened at the new location.
        move: Old and new locations.

    Raises:
        SourceError: If a planned image is missing at the new location, or has a different name or size.
    """

    def __init__(
        self, store: Store, plan: Plan, state: RunState, job: Job, source: ImageSource, move: SourceMove
    ) -> None:
        self._store, self._plan, self._epoch = store, plan, state.epoch
        self._rows = find_moved_images(CommitLog(store, plan.rows), plan, source, move, job.source.fetch_options)
        pairs = zip(move.old_uris, move.new_uris, strict=True)
        self._part_facts = {
            "rows": self._rows.num_rows,
            "ranges": [list(pair) for pair in ranges_of_rows(self._rows[ROW_ID].to_numpy())],
            "places": [list(pair) for pair in pairs if pair[0] != pair[1]],
            "way": job.source.model_dump(mode="json", include=set(_WAY)),
        }

    def state_after_move(self) -> RunState:
        """State that the log will have after the move, for reading images before the log is opened."""
        state = CommitLog(self._store, self._plan.rows).state
        state.changed.append(self._move_part())
        return state

    def append_to_log(self, log: CommitLog) -> None:
        """Append the move to the log, which must be open.

        Raises:
            OutputError: If another attempt has opened the log since the images were compared.
        """
        if log.state.epoch != self._epoch + 1:
            raise OutputError(f"{log.store.root}: another attempt has opened this run; run the same command again")
        log.record_move(self._move_part())

    def _move_part(self) -> Part:
        return {"path": write_part(self._store, self._rows), **self._part_facts}


def apply_moves_to_rows(store: Store, rows: pa.Table, moves: Sequence[Part]) -> pa.Table:
    """Replace each `image_uri` in rows of the predictions by the current location of the image.

    Args:
        store: The output.
        rows: Rows with their row ids.
        moves: Plan parts of the moves in the log or a manifest, oldest first.
    """
    column_index = rows.column_names.index(IMAGE_URI)
    uris = rows[IMAGE_URI]
    for part in moves:
        moved = read_plan_part(store, part, [ROW_ID, IMAGE_URI, MOVED_FROM])
        indices = pc.index_in(rows[ROW_ID], moved[ROW_ID])
        has_old_uri = pc.fill_null(pc.equal(uris, moved[MOVED_FROM].take(indices)), False)
        uris = pc.if_else(has_old_uri, moved[IMAGE_URI].take(indices), uris)
    return rows.set_column(column_index, rows.schema.field(column_index), uris)
