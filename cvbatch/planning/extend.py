"""More rows for a plan that a limit had cut short."""

from __future__ import annotations

from cvbatch.config.job import Job
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.planning.parts import planned_identity_keys, write_new_parts
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.sources.entries import ImageSource


def needs_extension(state: RunState, plan: Plan, limit: int | None) -> bool:
    """Whether a start with this limit would plan further images.

    A plan whose listing came to its end is complete: new images are a matter of an update, not of a limit.
    """
    complete = plan.complete if state.complete is None else state.complete
    return not complete and (limit is None or limit > state.planned)


def extend_plan_to_limit(log: CommitLog, plan: Plan, job: Job, source: ImageSource) -> None:
    """Plan what a raised or dropped limit lets in; the log must be open.

    Args:
        log: Gives the next row id and takes the `extend_plan_to_limit` record.
        plan: The plan so far.
        job: With the new limit.
        source: Listed again.
    """
    if not needs_extension(log.state, plan, job.source.limit):
        return
    known = frozenset() if source.positional else planned_identity_keys(log.store, all_plan_parts(plan, log.state))
    parts, complete = write_new_parts(
        log.store,
        source,
        first_row_id=log.state.planned,
        limit=job.source.limit,
        known=known,
    )
    log.extend_plan(parts, complete=complete)
