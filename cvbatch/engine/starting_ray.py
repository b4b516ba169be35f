"""Start Ray in the background while the plan is written, and prepare it for the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.address import cluster_address
from cvbatch.engine.budget import RunBudget
from cvbatch.engine.choose_settings import choose_run_settings
from cvbatch.engine.memory import has_nvidia_gpu, object_store_bytes
from cvbatch.engine.model_passes import describe_passes, largest_pass, plan_passes
from cvbatch.engine.nodes import Cluster, pin_to_driver_node, wait_for_workers
from cvbatch.engine.oom_kills import OomKillMonitor
from cvbatch.engine.ray_engine import RayEngine, RunSetup
from cvbatch.engine.ray_errors import to_cvbatch_error
from cvbatch.engine.startup import RayStartup
from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.errors import RunError
from cvbatch.models.resolve import check_aliases, needs_probe
from cvbatch.models.spec import ModelSpec, describe_schema, rows_schema_of_source
from cvbatch.output.log_records import RunState
from cvbatch.output.store import open_store
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.planning.units import first_row_samples, read_row_sample
from cvbatch.sources.fetch.plan_rows import check_source_access
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.system.control_group import memory_limit
from cvbatch.tuning.request import TuningRequest


@contextlib.contextmanager
def start_ray(
    output: Location,
    models: Sequence[ModelSpec],
    compute: ComputeConfig,
    pythonpath: str | None = None,
    report_status: Callable[[str], None] = lambda _: None,
) -> Iterator[StartingRay]:
    """Start Ray, or attach to a cluster; the end of the block stops or detaches it.

    Args:
        output: Output of the run.
        models: Of the job; they must fit the available memory.
        compute: Says how long Ray may take to start.
        pythonpath: Folder that the workers can import from, in addition to installed packages.
        report_status: Receives a phrase that says what the run waits for.

    Raises:
        UsageError: If no usable Ray is installed, or memory does not suffice.
        HaltError: If the block failed because the kernel killed processes for memory.
    """
    on_gpu = compute.device != "cpu" and has_nvidia_gpu()
    limit = memory_limit()
    if cluster_address() is None and not on_gpu:
        models = largest_pass(models, compute, limit)  # the others run before or after it
    startup, kill_monitor = (
        RayStartup(pythonpath, compute.ray_start_timeout, object_store_bytes(models, compute)),
        OomKillMonitor(models),
    )
    try:
        try:
            yield StartingRay(startup, output, kill_monitor, report_status)
        finally:
            startup.stop_ray()
    except RunError as error:
        if type(error) is RunError and kill_monitor.kills_in_a_row:  # subclasses name their own reason
            raise kill_monitor.halt_error() from None
        raise


@dataclass(frozen=True, slots=True)
class StartingRay:
    """A `StartingEngine`; methods that need Ray wait for it."""

    startup: RayStartup
    output: Location
    kill_monitor: OomKillMonitor
    report_status: Callable[[str], None]
    budget: RunBudget = field(default_factory=RunBudget)

    def wait_for_cluster(self, compute: ComputeConfig) -> Cluster:
        """Wait for Ray and for a usable node; return the cluster.

        Raises:
            HaltError: If no usable node joins in time.
        """
        self.report_status("starting Ray")
        must_wait = compute.wait_for_nodes is not None
        gpu = must_wait and compute.device == "cuda"
        return wait_for_workers(self.startup.wait_until_ready(), compute, gpu=gpu, everywhere=must_wait)

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """See `StartingEngine`."""
        if not any(map(needs_probe, models)):
            return tuple(models)
        cluster = self.wait_for_cluster(compute)
        from ray.exceptions import RayError

        from cvbatch.engine.ray_tasks import probe_models

        try:
            self.report_status("loading the models")
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
        import cvbatch.engine.dataflow  # noqa: F401 - the import takes a second, while Ray starts

        cluster = self.wait_for_cluster(job.compute)
        job = pin_to_driver_node(cluster, job)
        self.budget.update_cost(job.compute, len(cluster.nodes))
        request = TuningRequest.from_job(job, models, TransferredWeights.put_into_store(models, local=cluster.local))
        store, parts = open_store(self.output), all_plan_parts(plan, state)
        if any(map(is_object_uri, job.source.uris)):  # usually reads one plan part and one image
            check_source_access(first_row_samples(store, parts), job.source.fetch_options)
        passes = plan_passes(models, job.compute, cluster)
        self.report_status("choosing how the models run" if len(passes) == 1 else describe_passes(passes))
        certificate = choose_run_settings(
            store, request, cluster, rows, partial(read_row_sample, store, parts), can_measure=len(passes) == 1
        )
        schema = rows_schema_of_source(models, job.source, plan.extra_columns(store))
        schema = describe_schema(schema, models, certificate.setting.precision)
        setup = RunSetup(self.output, request, certificate, schema, rows, passes)
        return RayEngine(setup, cluster, self.budget, self.kill_monitor, self.report_status)
