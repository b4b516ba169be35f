"""More rows for a plan that a limit had cut short."""

from __future__ import annotations

from cvbatch.config.job import Job
from cvbatch.output.commit_log import Log
from cvbatch.output.log_records import State
from cvbatch.planning.parts import planned_images, write_parts
from cvbatch.planning.plan import Plan, all_parts
from cvbatch.sources.entries import Source


def wants_more(state: State, plan: Plan, limit: int | None) -> bool:
    """Whether a start with this limit would plan further images.

    A plan whose listing came to its end is complete: new images are a matter of an update, not of a limit.
    """
    complete = plan.complete if state.complete is None else state.complete
    return not complete and (limit is None or limit > state.planned)


def extend(log: Log, plan: Plan, job: Job, source: Source) -> None:
    """Plan what a raised or dropped limit lets in; the log must be open.

    Args:
        log: Gives the next row id and takes the `extend` record.
        plan: The plan so far.
        job: With the new limit.
        source: Listed again.
    """
    if not wants_more(log.state, plan, job.source.limit):
        return
    known = frozenset() if source.numbered else planned_images(log.store, all_parts(plan, log.state))
    parts, complete = write_parts(
        log.store,
        source,
        first_row_id=log.state.planned,
        limit=job.source.limit,
        known=known,
    )
    log.extend(parts, complete=complete)
