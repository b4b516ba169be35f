"""The hidden folder in which the columns of new models are computed, and what follows once the run has them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import Any, Final

from cvbatch.config.job import Job
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import acquire_lease
from cvbatch.output.log_records import RunState
from cvbatch.output.store import Store, open_store
from cvbatch.planning.plan import Plan, load_plan
from cvbatch.runs.run_record import load_record, store_record
from cvbatch.storage.location import Location
from cvbatch.system.formats import RecordFormat

_FOLDER: Final = "_cvbatch/evolving"
_MARK: Final = "_cvbatch/evolving.json"
"""Names the folder, whose name is different for each change, and the plan that the run had before."""
_MARK_FORMAT: Final = RecordFormat("mark of new columns", dict[str, Any], minor=1)


def place_of_computed_rows(output: Location, plan: Plan, state: RunState, job: Job) -> Location:
    """Find the folder for the new columns of a job; that of another change is deleted.

    Args:
        output: Location of the run.
        plan: Its plan.
        state: State of its log.
        job: With the new models.

    Raises:
        OutputError: If another process computes the columns of another change.
    """
    facts = [plan.nonce, plan.file, state.planned, len(state.changed), job.identity()["models"]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder, store = f"{_FOLDER}-{digest}", open_store(output)
    earlier = _read_mark(store)
    if earlier is not None and earlier["folder"] != folder:
        _check_nobody_computes(_place(output, earlier["folder"]))
        _delete_computed_rows(output, earlier["folder"])
    store.put_object(_MARK, _MARK_FORMAT.encode_record({"folder": folder, "plan": plan.file}))
    return _place(output, folder)


def complete_evolution(output: Location, log: CommitLog, plan: Plan) -> None:
    """Do all that follows once the log names a plan with other models; any process may repeat it.

    The run record says how fast the new columns were computed, with the models that the run has now. Then the hidden
    folder is deleted.

    Args:
        output: Location of the run.
        log: Its log.
        plan: Its current plan. Where it is the one that the new columns were begun with, nothing is done.
    """
    mark = _read_mark(log.store)
    if mark is None or mark.get("plan", plan.file) == plan.file:
        return
    record = load_record(log.store)
    latest = load_record(open_store(_place(output, mark["folder"]))) or record
    facts: dict[str, Any] = {
        "job": plan.job,
        "models": [model.to_short_json() for model in plan.models],
        "errors": dict(+log.state.errors),
        **{name: record[name] for name in ("skipped", "unreadable") if name in record},
    }
    store_record(log.store, {**latest, **facts})
    _delete_computed_rows(output, mark["folder"])


def discard_computed_rows(output: Location) -> None:
    """Delete the columns of a change that is no longer wanted, if there are any.

    Raises:
        OutputError: If another process computes them.
    """
    mark = _read_mark(open_store(output))
    if mark is not None:
        _check_nobody_computes(_place(output, mark["folder"]))
        _delete_computed_rows(output, mark["folder"])


def _check_nobody_computes(place: Location) -> None:
    store = open_store(place)
    plan = load_plan(store)
    if plan is not None:
        acquire_lease(store, CommitLog(store, plan.rows).refresh)


def _delete_computed_rows(output: Location, folder: str) -> None:
    place = _place(output, folder)
    if place.is_local:
        shutil.rmtree(place.uri, ignore_errors=True)
    else:
        from cvbatch.storage.buckets import open_bucket  # only buckets need the clients, which import slowly

        bucket = open_bucket(place)
        for page in bucket.list_objects(f"{place.key}/"):
            for key in page.objects["key"].to_pylist():
                bucket.delete_object(key)
    open_store(output).delete_object(_MARK)


def _place(output: Location, folder: str) -> Location:
    return replace(output, uri=f"{output.uri.rstrip('/')}/{folder}")


def _read_mark(store: Store) -> dict[str, Any] | None:
    try:
        return _MARK_FORMAT.decode_record(store.read_object(_MARK), f"{store.root}/{_MARK}")
    except FileNotFoundError:
        return None
