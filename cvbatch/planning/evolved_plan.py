"""The plan of a run whose models have changed: the same rows, other models."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from cvbatch.config.job import Job
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store
from cvbatch.planning.plan import EVOLVED_PREFIX, PLAN_FORMAT, Plan


def save_evolved_plan(
    store: Store, plan: Plan, job: Job, models: Sequence[ModelSpec], pythonpath: str | None, *, only_adds: bool
) -> Plan:
    """Store a plan of the same rows with other models; it counts once the log names it.

    Args:
        store: The output.
        plan: The current plan.
        job: Names the new models.
        models: The new models, complete.
        pythonpath: Folder that `python:` models are imported from.
        only_adds: Whether all earlier columns stay as they are; else answers that were stored about the run, such as
            repeats, are about another one from now on.

    Returns:
        The new plan, whose `file` the log must name.
    """
    facts = [model.to_json() for model in models]
    digest = hashlib.sha256(json.dumps([plan.file, facts], sort_keys=True).encode()).hexdigest()[:16]
    earlier = {"models": [model.to_json() for model in plan.models], "until": time.time()}
    evolved = replace(
        plan,
        nonce=plan.nonce if only_adds else uuid.uuid4().hex,
        identity={**plan.identity, "models": job.identity()["models"]},
        job={**plan.job, "models": job.model_dump(mode="json", by_alias=True)["models"]},
        models=tuple(models),
        pythonpath=pythonpath,
        file=f"{EVOLVED_PREFIX}{digest}.json",
        earlier_models=(*plan.earlier_models, earlier),
    )
    store.put_object(evolved.file, PLAN_FORMAT.encode_record(evolved))
    return evolved
