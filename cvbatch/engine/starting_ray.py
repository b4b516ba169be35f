"""Ray on its way: it starts in the background while the plan is written, and is then prepared for the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.budget import RunBudget
from cvbatch.engine.choose_settings import choose_run_settings
from cvbatch.engine.memory import object_store_bytes
from cvbatch.engine.nodes import Cluster, pin_to_driver_node, wait_for_workers
from cvbatch.engine.oom_kills import OomKillMonitor
from cvbatch.engine.ray_engine import RayEngine, RunSetup
from cvbatch.engine.ray_errors import to_cvbatch_error
from cvbatch.engine.startup import RayStartup
from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.errors import RunError
from cvbatch.models.resolve import check_aliases, needs_probe
from cvbatch.models.spec import ModelSpec, describe_schema, rows_schema
from cvbatch.output.log_records import RunState
from cvbatch.output.store import open_store
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.planning.units import first_row_samples, read_row_sample
from cvbatch.sources.fetch.plan_rows import check_source_access
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.tuning.request import TuningRequest


@contextlib.contextmanager
def start_ray(
    output: Location,
    models: Sequence[ModelSpec],
    compute: ComputeConfig,
    pythonpath: str | None = None,
    doing: Callable[[str], None] = lambda _: None,
) -> Iterator[StartingRay]:
    """Start Ray, or attach to its cluster; at the end of the block it is stopped.

    Args:
        output: Where the run is.
        models: Of the job; they must fit the memory that there is.
        compute: How long Ray may take to start.
        pythonpath: Folder that the workers can import from, besides what is installed.
        doing: Told in words what is waited for.

    Raises:
        UsageError: If there is no Ray that we could use, or too little memory.
        HaltError: If the block failed because the kernel ended processes that took too much memory.
    """
    startup, kills = (
        RayStartup(pythonpath, compute.ray_start_timeout, object_store_bytes(models, compute)),
        OomKillMonitor(models),
    )
    try:
        try:
            yield StartingRay(startup, output, kills, doing)
        finally:
            startup.stop_ray()
    except RunError as error:
        if type(error) is RunError and kills.kills_in_a_row:  # one of its kinds has a reason of its own
            raise kills.halt_error() from None
        raise


@dataclass(frozen=True, slots=True)
class StartingRay:
    """A `StartingEngine`; whatever needs Ray waits for it."""

    startup: RayStartup
    output: Location
    kills: OomKillMonitor
    doing: Callable[[str], None]
    limits: RunBudget = field(default_factory=RunBudget)

    def wait_for_cluster(self, compute: ComputeConfig) -> Cluster:
        """Wait for Ray, and for a node that can work; returns what there is to work with.

        Raises:
            HaltError: If none came.
        """
        self.doing("starting Ray")
        waits = compute.wait_for_nodes is not None
        gpu = waits and compute.device == "cuda"
        return wait_for_workers(self.startup.wait_until_ready(), compute, gpu=gpu, everywhere=waits)

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """See `StartingEngine`."""
        if not any(map(needs_probe, models)):
            return tuple(models)
        cluster = self.wait_for_cluster(compute)
        from ray.exceptions import RayError

        from cvbatch.engine.tasks import probe_models

        try:
            self.doing("loading the models")
            probed = probe_models(
                models, TransferredWeights.put_into_store(filter(needs_probe, models), local=cluster.local)
            )
        except RayError as error:
            raise to_cvbatch_error(error) from None
        check_aliases(probed)
        return probed

    def prepare_engine(
        self, models: Sequence[ModelSpec], plan: Plan, state: RunState, job: Job, *, rows: int
    ) -> RayEngine:
        """See `StartingEngine`."""
        import cvbatch.engine.dataflow  # noqa: F401 - takes a second, in which Ray starts

        cluster = self.wait_for_cluster(job.compute)
        job = pin_to_driver_node(cluster, job)
        self.limits.update_cost(job.compute, len(cluster.nodes))
        asked = TuningRequest.from_job(job, models, TransferredWeights.put_into_store(models, local=cluster.local))
        store, parts = open_store(self.output), all_plan_parts(plan, state)
        if any(map(is_object_uri, job.source.uris)):  # one part and one image will do, as a rule
            check_source_access(first_row_samples(store, parts), job.source.fetch_options)
        self.doing("choosing how the models run")
        certificate = choose_run_settings(store, asked, cluster, rows, partial(read_row_sample, store, parts))
        source = job.source
        schema = rows_schema(
            models, exif=source.exif, warnings=source.keeps_damaged, extra_columns=plan.extra_columns(store)
        )
        schema = describe_schema(schema, models, certificate.setting.precision)
        setup = RunSetup(self.output, asked, certificate, schema, rows)
        return RayEngine(setup, cluster, self.limits, self.kills, self.doing)
