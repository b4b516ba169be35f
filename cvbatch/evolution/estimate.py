"""What evolving a run would do, before anything is computed."""

from __future__ import annotations

from typing import Any

from cvbatch.config.job import Job
from cvbatch.errors import OutputError
from cvbatch.evolution.changes import ModelChanges, find_model_changes
from cvbatch.evolution.evolve import check_only_models_differ
from cvbatch.models.resolve import resolve_models
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import open_store
from cvbatch.planning.plan import load_plan
from cvbatch.runs.estimate import estimate_run
from cvbatch.runs.run_record import model_files_of_last_attempt


def describe_evolution(job: Job, *, pythonpath: str | None = None) -> str:
    """Say what `evolve_run` would do, such as `computes birds; copies classification`; nothing is started or fetched.

    Args:
        job: The job of a run with other models.
        pythonpath: Folder that `python:` models are imported from.

    Raises:
        UsageError: If a model is wrong.
    """
    return _find_changes(job, pythonpath).describe()


def estimate_job(job: Job, *, pythonpath: str | None = None) -> dict[str, Any]:
    """Estimate a job as `estimate_run` does; where its output holds a run with other models, estimate evolving it.

    Args:
        job: The job to estimate.
        pythonpath: Folder that the workers can import from, in addition to installed packages.

    Returns:
        Plain data for JSON. For a run with other models `evolve` names the columns by what happens to them, `to_go`
        the rows that must be computed before, and all else is about the models that are computed, if there are any.

    Raises:
        UsageError: If the request is wrong.
        RunError: If measuring fails.
    """
    store = open_store(job.output.location)
    plan = load_plan(store)
    if plan is None:
        return estimate_run(job, pythonpath=pythonpath)
    state = CommitLog(store, plan.rows).state
    try:
        check_only_models_differ(store, plan, state, job)
    except OutputError:
        return estimate_run(job, pythonpath=pythonpath)  # of another job, which the run itself refuses
    changes = _find_changes(job, pythonpath)
    if changes.is_empty:
        return estimate_run(job, pythonpath=pythonpath)
    facts = {"evolve": changes.to_json(), "to_go": state.remaining_rows}
    configs = tuple(config for config, (_, kept) in zip(job.models, changes.models, strict=True) if kept is None)
    if not configs:
        return {"images": state.planned, **facts}
    return {**estimate_run(job.model_copy(update={"models": configs}), pythonpath=pythonpath), **facts}


def _find_changes(job: Job, pythonpath: str | None) -> ModelChanges:
    store = open_store(job.output.location)
    plan = load_plan(store)
    models = resolve_models(job.models, fetch=False, folder=pythonpath)
    if plan is None:
        return ModelChanges(tuple((model, None) for model in models), ())
    return find_model_changes(store, plan, models, model_files_of_last_attempt(store))
