"""`cvbatch report` of a training: its curves, how good it is, and the validation images that it answers worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cvbatch.config.train_job import TrainJob
from cvbatch.models.backends import backend_of
from cvbatch.output.store import Store
from cvbatch.report.collect import IMAGES, CollectedPage, ReportOptions, collect_page_data
from cvbatch.report.folder import ReportFolder, place_folder
from cvbatch.report.page_data import AnswerSection, DataTable, Fact, ImageGroup, ModelCard, PageData, ReportHead
from cvbatch.report.section_base import number_facts
from cvbatch.report.thumbnails import Thumbnails
from cvbatch.report.write import ReportAnswer, check_image_count, write_page
from cvbatch.results.committed import Output, Storage
from cvbatch.results.console import format_duration
from cvbatch.training.curves import all_plots, curve_rows
from cvbatch.training.judging import Judgement, judge_result
from cvbatch.training.log import TrainingLog, TrainingState
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.result import write_result
from cvbatch.training.status import open_training, planned_epochs
from cvbatch.training.validation_run import place_of_store
from cvbatch.training.wording import format_metric
from cvbatch.training.worst import WorstImages, find_worst
from cvbatch.truth.base import TruthOptions

_COLUMNS: Final = ["epoch", "stage", "loss", "validation", "rate", "images/s", "share of waiting"]
_HASH_DIGITS: Final = 12


def write_training_report(
    output: Output,
    *,
    to: Output | None = None,
    images: int = IMAGES,
    storage: Storage = None,
    report: Callable[[int, int], None] = lambda done, images: None,
) -> ReportAnswer:
    """Write a page that shows a training; one that still goes on has curves, a finished one pictures, too.

    Args:
        output: The output of `cvbatch train`.
        to: Folder of the page, on a disk or in a bucket; None for `_report` below the output.
        images: Most images on the page.
        storage: Options for an object store.
        report: Receives the number of pictures that are drawn, and of all that are missing.

    Raises:
        OutputError: If there is no training, or the folder cannot be written.
        UsageError: If an option is wrong.
    """
    check_image_count(images)
    store, plan = open_training(output, storage)
    state, job = TrainingLog(store).state, TrainJob.model_validate(plan.job)
    folder = place_folder(place_of_store(store), to, storage)
    if not state.is_final:
        head = _describe_training(store, plan, state, Judgement())
        data = PageData(head, [], [], [], [], [], [_describe_learning(state)], list(plan.notes))
        return write_page(folder, CollectedPage(data, Thumbnails()))
    write_result(store, plan, state)
    judgement = judge_result(store, plan, state.best or {}, job, lambda phrase: None)
    page = _collect_finished(store, plan, state, job, judgement, folder, images, report)
    return write_page(folder, page)


def _collect_finished(
    store: Store,
    plan: TrainingPlan,
    state: TrainingState,
    job: TrainJob,
    judgement: Judgement,
    folder: ReportFolder,
    images: int,
    report: Callable[[int, int], None],
) -> CollectedPage:
    head, sections = _describe_training(store, plan, state, judgement), [_describe_learning(state)]
    notes = [*plan.notes, *judgement.notes]
    if judgement.opened is None:
        return CollectedPage(PageData(head, [], [], [], [], [], sections, notes), Thumbnails())
    worst = find_worst(store, plan, judgement.opened)
    sections += _show_worst(worst)
    truth = job.truth
    options = ReportOptions(
        images=images,
        truth=truth.location if judgement.metrics else None,
        truth_options=TruthOptions(
            image_column=truth.image_column, label_column=truth.label_column, ignored_value=truth.ignored_value
        ),
        report=report,
        head=head,
        sections=sections,
        change_image=worst.change_image,
    )
    page = collect_page_data(judgement.opened, folder, options)
    page.data.notes.extend(notes)
    return page


def _show_worst(worst: WorstImages) -> list[AnswerSection]:
    if not worst.row_ids:
        return []
    return [
        AnswerSection(
            name="worst",
            title="Worst answers",
            sentence="Validation images that are answered wrong, the surest first; then right ones, the least sure "
            "first. A wrong answer is often a wrong truth: look at both.",
            groups=[ImageGroup(f"{len(worst.notes):,} of {len(worst.truths):,} are wrong", list(worst.row_ids))],
            leads=True,
        )
    ]


def _describe_learning(state: TrainingState) -> AnswerSection:
    best: Mapping[str, Any] = state.best or {}
    sentence = "No epoch has ended yet."
    facts = list[Fact]()
    if best:
        name, value = next(iter(best["scores"].items()))
        sentence = f"Epoch {best['epoch']} is the best: {name} of the validation images is {format_metric(value)}."
        facts = number_facts(best["scores"])
    table = DataTable("Epochs", _COLUMNS, curve_rows(state.history))
    return AnswerSection(
        name="learning",
        title="Learning",
        sentence=sentence,
        facts=facts,
        tables=[table] if state.history else [],
        plots=all_plots(state),
        leads=True,
    )


def _describe_training(store: Store, plan: TrainingPlan, state: TrainingState, judgement: Judgement) -> ReportHead:
    start, done = plan.start, len(state.history)
    known, licence = sum(map(bool, start.categories)), plan.job.get("card", {}).get("licence") or start.licence or None
    weights = start.weights or ("own file" if start.weights_path else "random")
    digest = f", sha256 {start.weights_sha256[:_HASH_DIGITS]}…" if start.weights_sha256 else ""
    return ReportHead(
        title=store.root.rstrip("/").rpartition("/")[2] or store.root,
        sources=_as_list(plan.job["source"]["uri"]),
        models=[
            ModelCard(
                "start",
                start.name,
                start.task,
                weights + digest,
                start.licence or None,
                known,
            ),
            ModelCard("result", start.name, start.task, _describe_weights(state), licence, len(plan.counts)),
        ],
        facts=_list_facts(store, plan, state),
        certificate=None,
        is_complete=state.is_final,
        completeness=f"{done} of {planned_epochs(plan)} epochs are learned{_describe_best(state, judgement)}.",
        overline="Report of a training",
    )


def _as_list(uri: str | list[str]) -> list[str]:
    return [uri] if isinstance(uri, str) else list(uri)


def _describe_weights(state: TrainingState) -> str:
    return (
        "none yet"
        if state.best is None or "sha256" not in state.best
        else (f"epoch {state.best['epoch']}, sha256 {state.best['sha256'][:_HASH_DIGITS]}…")
    )


def _describe_best(state: TrainingState, judgement: Judgement) -> str:
    if state.best is None:
        return ""
    name, value = next(iter(state.best["scores"].items()))
    text = f"; the best is epoch {state.best['epoch']} with {name} {format_metric(value)}"
    for metrics in judgement.metrics.values():
        if name in metrics.intervals:
            low, high = metrics.intervals[name]
            return f"{text}, with 95 % certainty between {low:.4f} and {high:.4f}"
    return text


def _list_facts(store: Store, plan: TrainingPlan, state: TrainingState) -> list[Fact]:
    seconds = sum(row["seconds"] for row in state.history)
    facts = [
        Fact("output", store.root),
        Fact("learned from", f"{plan.trained:,} images"),
        Fact("validation", f"{plan.validated:,} images"),
        Fact("classes", f"{len(plan.counts):,}"),
        Fact("network", f"{plan.start.name} ({backend_of(plan.start).name})"),
        Fact("truth", f"{plan.job['truth']['uri']}, {plan.truth_layout}"),
        Fact("started", datetime.fromtimestamp(plan.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")),
        Fact("attempts", f"{state.epoch}"),
        Fact("data", f"sha256 {plan.data_sha256[:_HASH_DIGITS]}…"),
    ]
    if seconds:
        facts.append(Fact("learning took", format_duration(seconds)))
    facts += [Fact(name, str(plan.versions[name])) for name in ("cvbatch", "torch") if name in plan.versions]
    return facts
