"""The hidden folder in which new columns are computed until they are complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import Any, Final

from cvbatch.config.job import Job
from cvbatch.output.log_records import RunState
from cvbatch.output.store import Store, open_store
from cvbatch.planning.plan import Plan
from cvbatch.storage.location import Location
from cvbatch.system.formats import RecordFormat

_FOLDER: Final = "_cvbatch/evolving"
_MARK: Final = "_cvbatch/evolving.json"
"""Names the folder, whose name is different for each change."""
_MARK_FORMAT: Final = RecordFormat("mark of new columns", dict[str, Any])


def place_of_computed_rows(output: Location, plan: Plan, state: RunState, job: Job) -> Location:
    """Find the folder for the new columns of a job; that of another change is deleted.

    Args:
        output: Location of the run.
        plan: Its plan.
        state: State of its log.
        job: With the new models.
    """
    facts = [plan.nonce, plan.file, state.planned, len(state.changed), job.identity()["models"]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder, store = f"{_FOLDER}-{digest}", open_store(output)
    if _marked_folder(store) not in (None, folder):
        delete_computed_rows(output)
    store.put_object(_MARK, _MARK_FORMAT.encode_record({"folder": folder}))
    return _place(output, folder)


def delete_computed_rows(output: Location) -> None:
    """Delete the folder, if there is one."""
    store = open_store(output)
    folder = _marked_folder(store)
    if folder is None:
        return
    place = _place(output, folder)
    if place.is_local:
        shutil.rmtree(place.uri, ignore_errors=True)
    else:
        from cvbatch.storage.buckets import open_bucket  # only buckets need the clients, which import slowly

        bucket = open_bucket(place)
        for page in bucket.list_objects(f"{place.key}/"):
            for key in page.objects["key"].to_pylist():
                bucket.delete_object(key)
    store.delete_object(_MARK)


def _place(output: Location, folder: str) -> Location:
    return replace(output, uri=f"{output.uri.rstrip('/')}/{folder}")


def _marked_folder(store: Store) -> str | None:
    try:
        return str(_MARK_FORMAT.decode_record(store.read_object(_MARK), f"{store.root}/{_MARK}")["folder"])
    except FileNotFoundError:
        return None
