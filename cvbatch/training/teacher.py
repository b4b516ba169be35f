"""Predictions of a run as truth: a large model's labels teach a small one, and corrections replace some of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.train_job import OF_PREDICTIONS, TruthConfig
from cvbatch.errors import JobError, OutputError, UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.manifest import is_finished
from cvbatch.output.store import open_store
from cvbatch.planning.plan import load_plan
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import CONTENT_SHA256, IMAGE_URI, SOURCE_REMOVED
from cvbatch.tasks import CLASSIFICATION
from cvbatch.training.soft_labels import SoftLabelTruth
from cvbatch.truth.base import Bools, Ints, Truth, TruthOptions, TruthReader, read_truth
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.matching import match_images
from cvbatch.truth.names import comparable_name

LAYOUT: Final = "predictions of cvbatch run"
_SHORT_NAMES: Final = ("label_id", "score", "top_label_ids", "top_scores")


def open_teacher(config: TruthConfig) -> OpenedOutput | None:
    """Open the run that is the truth of a training; None if its truth is no output of `cvbatch run`.

    Raises:
        JobError: If a key of `truth` belongs to predictions, and the truth is something else.
        OutputError: If the run is not finished.
    """
    location = config.location
    may_be_output = os.path.isdir(location.uri) if location.is_local else True
    store = open_store(location) if may_be_output else None
    plan = None if store is None else load_plan(store)
    if store is None or plan is None:
        for name in OF_PREDICTIONS:
            if getattr(config, name) is not None:
                raise JobError(
                    f"truth.{name}: belongs to predictions: expected the output of cvbatch run as truth.uri, got "
                    f"{location}"
                )
        return None
    if not is_finished(store, CommitLog(store, plan.rows).state):
        raise OutputError(
            f"{store.root}: expected a finished run as truth, and this one is not; give the command that labels it "
            "again, or wait for its end"
        )
    return OpenedOutput(store, plan)


def read_predicted_labels(
    opened: OpenedOutput, config: TruthConfig, readers: Sequence[TruthReader], options: TruthOptions
) -> SoftLabelTruth:
    """Read the classes that a run has predicted; images are known by their content.

    Args:
        opened: The run.
        config: Its model, the least score, and the corrections.
        readers: Formats of corrections.
        options: Of corrections.

    Raises:
        UsageError: If the run has no classifier, or no image has a class with this score; if the corrections are
            about other images.
    """
    model = opened.find_model(CLASSIFICATION, config.model)
    table, notes = _read_images(opened, model)
    truth = _make_truth(opened, model, table)
    is_kept = table[f"{model.alias}_score"].to_numpy() >= (config.min_score or 0.0)
    if config.corrections is not None:
        corrections = read_truth(config.corrections_location, readers, options)
        truth, is_corrected, more = _correct(truth, corrections, table)
        is_kept, notes = is_kept | is_corrected, [*notes, *more]
    if not is_kept.any():
        best = max(table[f"{model.alias}_score"].to_pylist(), default=0.0)
        raise UsageError(
            f"{opened.store.root}: expected predictions of {model.alias} with a score of at least "
            f"{config.min_score}, got {len(is_kept):,} images with at most {best:.3f}; lower truth.min_score"
        )
    if not is_kept.all():
        notes.append(f"{int((~is_kept).sum()):,} predictions have a lower score than {config.min_score:g}")
    notes.append(f"targets are predictions of {model.alias} in {opened.store.root}: validation says how far they agree")
    return _select(truth, np.flatnonzero(is_kept), notes)


def _read_images(opened: OpenedOutput, model: ModelSpec) -> tuple[pa.Table, list[str]]:
    """Location, content and answers of all images with an answer, each content once; and what is left out."""
    names = [f"{model.alias}_{short}" for short in _SHORT_NAMES]
    tables, removed, failed = list[pa.Table](), 0, 0
    for rows in iter_rows(opened, RowSelection(columns=[IMAGE_URI, CONTENT_SHA256, SOURCE_REMOVED, *names])):
        kept = rows.filter(pc.invert(rows[SOURCE_REMOVED]))
        removed += rows.num_rows - kept.num_rows
        answered = kept.filter(pc.is_valid(kept[names[0]]))
        failed += kept.num_rows - answered.num_rows
        tables.append(answered.drop_columns([SOURCE_REMOVED]))
    if not sum(table.num_rows for table in tables):
        raise UsageError(
            f"{opened.store.root}: expected predictions to learn from, got none: {failed:,} images in error and "
            f"{removed:,} that were removed from the source"
        )
    table = pa.concat_tables(tables).combine_chunks()
    notes = []
    if failed or removed:
        notes.append(f"{failed:,} images of the run in error and {removed:,} that were removed take no part")
    return _one_of_each_content(table, names[0], notes), notes


def _one_of_each_content(table: pa.Table, label: str, notes: list[str]) -> pa.Table:
    """Images with the same bytes once; not at all if their classes differ, as those of pages of one file may."""
    codes = table[CONTENT_SHA256].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    labels = table[label].to_numpy()
    differs = np.bincount(inverse, labels != labels[first][inverse]) > 0
    if differs.any():
        count = int(np.bincount(inverse)[differs].sum())
        notes.append(f"{count:,} predictions take no part: another one of the same file has another class")
    return table.take(pa.array(np.sort(first[~differs])))


def _make_truth(opened: OpenedOutput, model: ModelSpec, table: pa.Table) -> SoftLabelTruth:
    label_id, _, ids, scores = (table[f"{model.alias}_{short}"].combine_chunks() for short in _SHORT_NAMES)
    names = [name for name in model.categories if name is not None]
    categories = tuple(dict.fromkeys(names))
    position = {name: index for index, name in enumerate(categories)}
    numbers = np.array([-1 if name is None else position[name] for name in model.categories], np.int64)
    return SoftLabelTruth(
        source=f"predictions of {model.alias} in {opened.store.root}",
        layout=f"{LAYOUT}: {model.alias}, {model.name}",
        image_names=table[CONTENT_SHA256].to_pylist(),
        locations=table[IMAGE_URI].to_pylist(),
        categories=categories,
        labels=numbers[label_id.to_numpy()],
        lengths=pc.list_value_length(ids).to_numpy().astype(np.int64),
        listed=numbers[pc.list_flatten(ids).to_numpy()],
        scores=pc.list_flatten(scores).to_numpy().astype(np.float64),
    )


def _correct(truth: SoftLabelTruth, corrections: Truth, table: pa.Table) -> tuple[SoftLabelTruth, Bools, list[str]]:
    """Replace what is corrected: its class is certain. New classes come last."""
    assert isinstance(corrections, LabelTruth), "the readers of classification give labels"
    matches, _ = match_images(corrections, table)
    is_corrected = matches >= 0
    if not is_corrected.any():
        raise UsageError(
            f"{corrections.source}: expected corrections of images of the run, such as {table[IMAGE_URI][0]}; got "
            f"{corrections.image_names[0]}"
        )
    known = {comparable_name(name): index for index, name in enumerate(truth.categories)}
    categories = list(truth.categories)
    for name in corrections.categories:
        if comparable_name(name) not in known:
            known[comparable_name(name)] = len(categories)
            categories.append(name)
    numbers = np.array([known[comparable_name(name)] for name in corrections.categories], np.int64)
    new_labels = numbers[corrections.labels[np.maximum(matches, 0)]]
    changed = int((is_corrected & (new_labels != truth.labels)).sum())
    unused = len(corrections.image_names) - len(np.unique(matches[is_corrected]))
    notes = [f"{int(is_corrected.sum()):,} images are corrected, {changed:,} of them to another class"]
    if unused:
        notes.append(f"{unused:,} corrections are about no image of the run that has a prediction")
    values: dict[str, Any] = {
        "labels": np.where(is_corrected, new_labels, truth.labels),
        "categories": tuple(categories),
        **_certain_classes(truth, is_corrected, new_labels),
    }
    return replace(truth, **values), is_corrected, notes


def _certain_classes(truth: SoftLabelTruth, is_certain: Bools, labels: Ints) -> dict[str, Any]:
    """Lists of classes with one class and a score of 1 where it is certain."""
    images = np.repeat(np.arange(len(truth.lengths)), truth.lengths)
    stays, certain = ~is_certain[images], np.flatnonzero(is_certain)
    owners = np.concatenate([images[stays], certain])
    order = np.argsort(owners, kind="stable")
    return {
        "lengths": np.where(is_certain, 1, truth.lengths),
        "listed": np.concatenate([truth.listed[stays], labels[certain]])[order],
        "scores": np.concatenate([truth.scores[stays], np.ones(len(certain))])[order],
    }


def _select(truth: SoftLabelTruth, kept: Ints, notes: Sequence[str]) -> SoftLabelTruth:
    is_kept = np.zeros(len(truth.lengths), np.bool_)
    is_kept[kept] = True
    elements = np.repeat(is_kept, truth.lengths)
    locations = truth.locations or truth.image_names
    values: dict[str, Any] = {
        "image_names": [truth.image_names[index] for index in kept.tolist()],
        "locations": [locations[index] for index in kept.tolist()],
        "labels": truth.labels[kept],
        "lengths": truth.lengths[kept],
        "listed": truth.listed[elements],
        "scores": truth.scores[elements],
        "notes": tuple(notes),
    }
    return replace(truth, **values)
