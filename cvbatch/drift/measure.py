"""Whether a model is at home with the images of a run: `measure_drift`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.drift.compare import LEAST_ROWS, compare_samples
from cvbatch.drift.groups import compare_groups
from cvbatch.drift.pixels import BRIGHTNESS, SHARPNESS, measure_pixels
from cvbatch.drift.report import DriftReport, make_report
from cvbatch.drift.run_sample import RunSample, read_run_sample
from cvbatch.drift.signals import signals_of_task
from cvbatch.errors import OutputError, UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.results.best_rows import random_numbers
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.where import Where, check_group_column, check_names
from cvbatch.schema import IMAGE_URI
from cvbatch.tasks import EMBEDDING

FOLDER: Final = "folder"
MOST_ROWS: Final = 100_000
"""Images of both runs together that are compared."""
PIXELS: Final = 1000


def measure_drift(
    output: Output,
    reference: Output | None = None,
    *,
    by: str | None = None,
    model: str | None = None,
    pixels: int = PIXELS,
    max_rows: int = MOST_ROWS,
    seed: int = 0,
    where: Where = None,
    reference_where: Where = None,
    storage: Storage = None,
) -> DriftReport:
    """Compare the images and answers of a run with those of a reference.

    Args:
        output: The output location.
        reference: Output of a run of the same models on images with which they are at home, such as those that they
            were evaluated on; None says what is missing.
        by: `folder`, or a column: also compare each of its values with the reference.
        model: Column prefix of the only model to compare; None for all that both runs have.
        pixels: Images of each run that are read again for brightness and sharpness; 0 for none.
        max_rows: Most images of both runs; they are taken by chance.
        seed: Of this chance, and of the tests.
        where: Only images of the run for which this holds.
        reference_where: Only images of the reference for which this holds.
        storage: Options for an object store.

    Returns:
        The shifts of all signals, the largest effect first.

    Raises:
        OutputError: If there is no run, a run has too few images, or there is no reference.
        UsageError: If an option is wrong.
    """
    if pixels < 0 or max_rows < 2 * LEAST_ROWS:
        raise UsageError(
            f"expected pixels from 0 and max_rows from {2 * LEAST_ROWS}, got pixels={pixels}, max_rows={max_rows}"
        )
    opened = open_output(output, storage)
    if reference is None:
        raise OutputError(missing_reference(opened))
    other = open_output(reference, storage)
    group_by = IMAGE_URI if by == FOLDER else by
    if group_by is not None:
        check_group_column(group_by, opened.schema)
    if group_by is not None and pa.types.is_nested(kind := opened.schema.field(group_by).type):
        raise UsageError(f"by {by}: expected a column with one value for each image, got {kind}")
    models, notes = _common_models(opened, other, model)
    limit = max_rows // 2
    sample = read_run_sample(opened, models, limit=limit, seed=seed, where=where, group_by=group_by)
    home = read_run_sample(other, models, limit=limit, seed=seed, where=reference_where)
    for part, run in ((sample, opened), (home, other)):
        if len(part) < LEAST_ROWS:
            raise OutputError(
                f"{run.store.root} has {len(part)} images to compare, and {part.counts['error']} errors; expected at "
                f"least {LEAST_ROWS}"
            )
    if pixels:
        for part, run in ((sample, opened), (home, other)):
            notes += _add_pixels(part, run, pixels, seed)
    else:
        notes.append("brightness and sharpness are not compared, as no images were to be read again")
    comparison = compare_samples(home, sample, seed)
    groups = compare_groups(home, sample) if group_by is not None else []
    return make_report(home, sample, comparison, groups, notes)


def missing_reference(opened: OpenedOutput) -> str:
    """What a run keeps of the data its models learned from, and what is missing for a comparison."""
    facts = [f"{model.alias} has {model.label_map or model.weights or 'own weights'}" for model in opened.plan.models]
    return (
        f"{opened.store.root} keeps the names of weights and classes ({', '.join(facts)}), but nothing of the images "
        "that its models learned from; run the same models on images with which they are known to be good, and name "
        "that output as the reference"
    )


def _common_models(opened: OpenedOutput, other: OpenedOutput, alias: str | None) -> tuple[list[ModelSpec], list[str]]:
    """The models whose answers can be compared, and notes about those that cannot."""
    known = {model.alias: model for model in other.plan.models}
    check_names("model", [] if alias is None else [alias], [model.alias for model in opened.plan.models])
    models, notes = list[ModelSpec](), list[str]()
    for model in opened.plan.models:
        if alias not in (None, model.alias):
            continue
        twin = known.get(model.alias)
        if twin is None:
            notes.append(f"{model.alias} is not compared, as the reference does not have it")
        elif _identity(twin) != _identity(model):
            notes.append(f"{model.alias} is not compared, as it is another model in the reference ({twin.name})")
        elif signals_of_task(model.task) is None and model.task != EMBEDDING.name:
            notes.append(f"{model.alias} is not compared, as answers for {model.task} are not")
        else:
            models.append(model)
    return models, notes


def _identity(model: ModelSpec) -> tuple[object, ...]:
    return (
        model.task,
        model.kind,
        model.name,
        model.weights_sha256 or model.weights,
        model.categories,
        model.dimension,
        model.normalize,
        model.top_k,
    )


def _add_pixels(sample: RunSample, opened: OpenedOutput, count: int, seed: int) -> Sequence[str]:
    """Add brightness and sharpness of some images; returns notes about those that could not be read again."""
    chosen = np.argsort(random_numbers(sample.row_ids, seed + 1), kind="stable")[:count]
    pixels = measure_pixels(opened, sample.row_ids[chosen])
    order = np.argsort(sample.row_ids)
    positions = order[np.searchsorted(sample.row_ids[order], pixels.row_ids)]
    for name, values in ((BRIGHTNESS, pixels.brightness), (SHARPNESS, pixels.sharpness)):
        sample.values[name] = np.full(len(sample), np.nan)
        sample.values[name][positions] = values
    sample.counts["pixels"] = len(pixels.row_ids)
    if not pixels.failed:
        return ()
    return (
        f"{opened.store.root}: {pixels.failed} of {len(chosen)} images could not be read again for brightness and "
        f"sharpness ({pixels.reason})",
    )
