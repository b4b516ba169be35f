"""Ray on its way: it starts in the background while the plan is written, and is then prepared for the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.engine.budget import Limits
from cvbatch.engine.choose_settings import setting_of_run
from cvbatch.engine.memory import own_store
from cvbatch.engine.nodes import Cluster, with_workers, within_reach
from cvbatch.engine.oom_kills import KillWatch
from cvbatch.engine.ray_engine import RayEngine, RunSetup
from cvbatch.engine.ray_errors import plain
from cvbatch.engine.startup import Startup
from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.errors import RunError
from cvbatch.models.resolve import check_aliases, needs_probe
from cvbatch.models.spec import ModelSpec, described, rows_schema
from cvbatch.output.log_records import State
from cvbatch.output.store import open_store
from cvbatch.planning.plan import Plan, all_parts
from cvbatch.planning.units import first_samples, read_sample
from cvbatch.sources.fetch.plan_rows import check_access
from cvbatch.storage.location import Place, is_object_uri
from cvbatch.tuning.request import Asked


@contextlib.contextmanager
def start_ray(
    output: Place,
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
    startup, kills = Startup(pythonpath, compute.ray_start_timeout, own_store(models, compute)), KillWatch(models)
    try:
        try:
            yield StartingRay(startup, output, kills, doing)
        finally:
            startup.stop()
    except RunError as error:
        if type(error) is RunError and kills.in_a_row:  # one of its kinds has a reason of its own
            raise kills.error() from None
        raise


@dataclass(frozen=True, slots=True)
class StartingRay:
    """A `StartingEngine`; whatever needs Ray waits for it."""

    startup: Startup
    output: Place
    kills: KillWatch
    doing: Callable[[str], None]
    limits: Limits = field(default_factory=Limits)

    def connect(self, compute: ComputeConfig) -> Cluster:
        """Wait for Ray, and for a node that can work; returns what there is to work with.

        Raises:
            HaltError: If none came.
        """
        self.doing("starting Ray")
        waits = compute.wait_for_nodes is not None
        gpu = waits and compute.device == "cuda"
        return with_workers(self.startup.ready(), compute, gpu=gpu, everywhere=waits)

    def probe(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        """See `StartingEngine`."""
        if not any(map(needs_probe, models)):
            return tuple(models)
        cluster = self.connect(compute)
        from ray.exceptions import RayError

        from cvbatch.engine.tasks import probe_models

        try:
            self.doing("loading the models")
            probed = probe_models(models, TransferredWeights.of(filter(needs_probe, models), local=cluster.local))
        except RayError as error:
            raise plain(error) from None
        check_aliases(probed)
        return probed

    def prepare(self, models: Sequence[ModelSpec], plan: Plan, state: State, job: Job, *, rows: int) -> RayEngine:
        """See `StartingEngine`."""
        import cvbatch.engine.dataflow  # noqa: F401 - takes a second, in which Ray starts

        cluster = self.connect(job.compute)
        job = within_reach(cluster, job)
        self.limits.go_on(job.compute, len(cluster.nodes))
        asked = Asked.of(job, models, TransferredWeights.of(models, local=cluster.local))
        store, parts = open_store(self.output), all_parts(plan, state)
        if any(map(is_object_uri, job.source.uris)):  # one part and one image will do, as a rule
            check_access(first_samples(store, parts), job.source.reach)
        self.doing("choosing how the models run")
        certificate = setting_of_run(store, asked, cluster, rows, partial(read_sample, store, parts))
        source = job.source
        schema = rows_schema(models, exif=source.exif, warnings=source.keeps_damaged, carried=plan.carried(store))
        schema = described(schema, models, certificate.setting.precision)
        setup = RunSetup(self.output, asked, certificate, schema, rows)
        return RayEngine(setup, cluster, self.limits, self.kills, self.doing)
