"""Adding rows to a plan whose listing was ended by a limit."""

from __future__ import annotations

from cvbatch.config.job import Job
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.planning.parts import planned_identity_keys, write_new_parts
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.sources.entries import ImageSource


def needs_extension(state: RunState, plan: Plan, limit: int | None) -> bool:
    """Whether an attempt with this limit would plan more images.

    If the listing reached the end of the source, the plan is complete: only an update adds new images.
    """
    complete = plan.complete if state.complete is None else state.complete
    return not complete and (limit is None or limit > state.planned)


def extend_plan_to_limit(log: CommitLog, plan: Plan, job: Job, source: ImageSource) -> None:
    """Plan images within a raised or removed limit; the log must be open.

    Args:
        log: Has the next row id and receives the `extend` record.
        plan: The original plan.
        job: Has the new limit.
        source: The source to list again.
    """
    if not needs_extension(log.state, plan, job.source.limit):
        return
    known = frozenset() if source.positional else planned_identity_keys(log.store, all_plan_parts(plan, log.state))
    parts, complete = write_new_parts(
        log.store,
        source,
        first_row_id=log.state.planned,
        limit=job.source.limit,
        known_keys=known,
    )
    log.extend_plan(parts, complete=complete)
