"""A source that has moved: the same images, by name and size, lie elsewhere."""

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
from cvbatch.planning.finding import SourceMove, find_moved_images
from cvbatch.planning.parts import Part, read_plan_part, write_part
from cvbatch.planning.plan import Plan
from cvbatch.schema import IMAGE_URI, MOVED_FROM, ROW_ID
from cvbatch.sources.entries import ImageSource
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.options import OPTION_NAMES

_WAY: Final = (*OPTION_NAMES, "http_hosts", "http_private")
"""How a source is reached; not part of a run's identity."""


def current_uris(plan: Plan, state: RunState) -> tuple[str, ...]:
    """Where the sources of a run lie, as far as it knows."""
    there = _as_uri_list(plan.identity["source"]["uri"])
    for part in state.move_parts:
        places = dict(part["places"])
        there = [places.get(uri, uri) for uri in there]
    return tuple(there)


def identity_with_uris(plan: Plan, places: Sequence[str]) -> dict[str, Any]:
    """The identity of a run whose sources lie at these places."""
    source = {**plan.identity["source"], "uri": list(places) if len(places) > 1 else places[0]}
    return {**plan.identity, "source": source}


def current_job(plan: Plan, state: RunState) -> Job:
    """The job of a run, at the places where its sources lie by now."""
    if not state.move_parts:
        return _job_of_plan(plan.job)
    where = current_uris(plan, state)
    uri = list(where) if len(where) > 1 else where[0]
    return _job_of_plan({**plan.job, "source": {**plan.job["source"], **state.move_parts[-1]["way"], "uri": uri}})


def _job_of_plan(data: Mapping[str, Any]) -> Job:
    """A job of a plan; what a newer version asked for besides is part of the identity, which is compared later."""
    return Job.model_validate(data, extra="ignore")


def find_requested_move(plan: Plan, state: RunState, job: Job, moved_from: Sequence[str]) -> SourceMove | None:
    """What the job and `--moved-from` say has moved.

    Returns:
        None if nothing has, or if the run knows it already: the same command may be given again.

    Raises:
        SourceError: If the run never was where it is said to have been, or still is there.
    """
    before, asked = current_uris(plan, state), _as_uri_list(job.identity()["source"]["uri"])
    places = dict(zip(before, asked, strict=False))
    earlier = {old.rstrip("/") for part in state.move_parts for old, _ in part["places"]}
    known = {uri.rstrip("/"): uri for uri in before}
    found = {}
    for given in moved_from:
        old = (to_local_path(given) or given).rstrip("/") or "/"
        here = known.get(old)
        if here is not None and len(before) == len(asked) and places[here] != here:
            found[here] = places[here]
        elif old not in earlier or tuple(asked) != before:
            what = "the source is still there, by this job" if here is not None else "this run never had it"
            raise SourceError(
                f"--moved-from {given}: {what}; its images are at {', '.join(before)}: expected that after "
                "--moved-from, and the new place as source.uri"
            )
    return SourceMove(before, tuple(found.get(uri, uri) for uri in before)) if found else None


class PlannedMove:
    """What a start needs to go on with a run whose source has moved.

    Args:
        store: The output.
        plan: Of the run.
        state: Of its log, before it is opened.
        job: Names the new place.
        source: Opened there.
        move: What has moved.

    Raises:
        SourceError: If a planned image has another name or size there, or is not there.
    """

    def __init__(
        self, store: Store, plan: Plan, state: RunState, job: Job, source: ImageSource, move: SourceMove
    ) -> None:
        self._store, self._plan, self._epoch = store, plan, state.epoch
        self._rows = find_moved_images(store, plan, state, source, move)
        pairs = zip(move.old_uris, move.new_uris, strict=True)
        self._about = {
            "rows": self._rows.num_rows,
            "ranges": [list(pair) for pair in ranges_of_rows(self._rows[ROW_ID].to_numpy())],
            "places": [list(pair) for pair in pairs if pair[0] != pair[1]],
            "way": job.source.model_dump(mode="json", include=set(_WAY)),
        }

    def state_after_move(self) -> RunState:
        """What the log will say, for whoever wants to look at the images before it is opened."""
        state = CommitLog(self._store, self._plan.rows).state
        state.changed.append(self._move_part())
        return state

    def append_to_log(self, log: CommitLog) -> None:
        """Write it down; the log must be open.

        Raises:
            OutputError: If the run has gone on since the images were looked at.
        """
        if log.state.epoch != self._epoch + 1:
            raise OutputError(
                f"{log.store.root}: another start has worked on it meanwhile; give the same command again"
            )
        log.record_move(self._move_part())

    def _move_part(self) -> Part:
        return {"path": write_part(self._store, self._rows), **self._about}


def apply_moves_to_rows(store: Store, rows: pa.Table, moves: Sequence[Part]) -> pa.Table:
    """Rows of the predictions with each `image_uri` where its image lies by now.

    Args:
        store: The output.
        rows: With their row ids.
        moves: Of the log or a manifest, oldest first.
    """
    at = rows.column_names.index(IMAGE_URI)
    uris = rows[IMAGE_URI]
    for part in moves:
        facts = read_plan_part(store, part, [ROW_ID, IMAGE_URI, MOVED_FROM])
        places = pc.index_in(rows[ROW_ID], facts[ROW_ID])
        as_it_was = pc.fill_null(pc.equal(uris, facts[MOVED_FROM].take(places)), False)
        uris = pc.if_else(as_it_was, facts[IMAGE_URI].take(places), uris)
    return rows.set_column(at, rows.schema.field(at), uris)


def _as_uri_list(uri: str | list[str]) -> list[str]:
    return [uri] if isinstance(uri, str) else uri
