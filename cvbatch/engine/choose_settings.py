"""Where the setting of a run comes from: kept, asked for, measured before, measured now, or the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from cvbatch.engine.memory import is_tight
from cvbatch.engine.nodes import Cluster
from cvbatch.engine.ray_errors import plain
from cvbatch.engine.resource_plan import size_pools, uses_gpu
from cvbatch.inference.compiled_packages import package
from cvbatch.inference.settings import Setting
from cvbatch.models.backends import applies
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store
from cvbatch.tuning import certificate
from cvbatch.tuning.benchmark import Work
from cvbatch.tuning.certificate import Certificate
from cvbatch.tuning.request import Asked
from cvbatch.tuning.search import Trial

Sample = Callable[[int], pa.Table]
"""Gives at most so many rows of the plan, from all over it."""


def setting_of_run(store: Store, asked: Asked, cluster: Cluster, rows: int, sample: Sample) -> Certificate:
    """The setting of a run, which is the same for all its starts.

    Args:
        store: The output; the setting is kept there.
        asked: What it is for.
        cluster: Connected.
        rows: Images to go.
        sample: For measuring, if that pays.

    Raises:
        RunError: If the measuring fails.
    """
    if (there := certificate.kept(store)) is not None:
        return there
    return certificate.keep(store, certificate.fixed(asked.compute) or certified(asked, cluster, sample, rows=rows))


def certified(asked: Asked, cluster: Cluster, sample: Sample, *, rows: int, always: bool = False) -> Certificate:
    """The certificate of these models on this machine.

    Args:
        asked: What it is for.
        cluster: Connected.
        sample: For measuring.
        rows: Images to go: what does not pay for them is not measured.
        always: Measure even so, and what was measured before again.

    Raises:
        RunError: If the measuring fails.
    """
    from ray.exceptions import RayError

    from cvbatch.engine.tasks import measure_settings

    on_gpu = uses_gpu(cluster, asked.compute)
    guess = certificate.unmeasured(asked.compute, asked.models, on_gpu=on_gpu)
    pools = size_pools(cluster, asked.compute, asked.models, rows, guess)
    cache = certificate.Cache(pools.device, asked.models, pools.threads)
    tried = certificate.candidates(asked.compute, asked.models, on_gpu=on_gpu)
    pays_below = certificate.compile_pays_below(rows)
    if not always:
        known = _known(cache, tried, asked.models)
        searching = certificate.worth_searching(rows, tried, asked.models, on_gpu=on_gpu)
        if known is not None and (not searching or _thorough(known, asked, pays_below, sample)):
            return known if _ready(known, asked, cluster, pays_below) else known.uncompiled()
        if not searching or is_tight(asked.models, cluster.memory_limit):
            return guess
    work = Work(asked.models, asked.decode, pools.device, pools.threads, pools.batch_size, asked.files)
    trial = Trial(work, tuple(tried), pays_below)
    some = sample(certificate.SAMPLE)
    try:
        measured = measure_settings(some, trial, pools)
    except RayError as error:
        raise plain(error) from None
    found = certificate.choose(measured, has_answers=trial.has_answers)
    found = replace(found, large_files=certificate.look_large(some))
    if found.measured_enough:
        cache.save(found)
    return found


def _known(cache: certificate.Cache, tried: Sequence[Setting], models: Sequence[ModelSpec]) -> Certificate | None:
    """What was measured before, if the job still allows it."""
    known = cache.load()
    if known is None or Setting(known.setting.precision, scaled_decode=known.setting.scaled_decode) not in tried:
        return None
    scaling = any(each.scaled_decode for each in tried) and not known.setting.device_decode
    if scaling and not known.tried_scaling and not certificate.have_answers(models):
        # it was measured on small images, and where there are no answers to protect it only ever saves time
        return replace(known, setting=replace(known.setting, scaled_decode=True))
    return known


def _pays(known: Certificate, pays_below: float) -> bool:
    """Whether the run is long enough for compiling."""
    rates = known.rates()
    return rates is not None and rates["together"] < pays_below


def _thorough(known: Certificate, asked: Asked, pays_below: float, sample: Sample) -> bool:
    """Whether a longer search would find nothing more for this run."""
    scaling = certificate.may_scale(asked.compute, asked.models) and certificate.have_answers(asked.models)
    searched = known.tried_scaling or known.large_files
    if scaling and not searched and certificate.look_large(sample(certificate.SAMPLE)):
        return False
    return known.tried_compiling or not (_pays(known, pays_below) and applies("compiled", asked.models))


def _ready(known: Certificate, asked: Asked, cluster: Cluster, pays_below: float) -> bool:
    """Whether the run can wait for what must be compiled first; another node may have to do that anew."""
    if not known.setting.compiled or _pays(known, pays_below):
        return True
    packages = [package(model, known.setting) for model in asked.models if applies("compiled", [model])]
    return cluster.local and all(path.exists() for path in packages)
