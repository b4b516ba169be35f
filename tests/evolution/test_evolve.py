"""Runs whose models change, with an engine that needs no Ray: what is computed, what is copied, and kills between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cvbatch as api
from cvbatch.config.job import Job
from cvbatch.errors import OtherModelsError, OutputError
from cvbatch.evolution.estimate import describe_evolution, estimate_job
from cvbatch.evolution.evolve import evolve_run
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.output.store import LocalStore, open_store
from cvbatch.planning.plan import load_plan
from cvbatch.results.committed import open_output
from cvbatch.results.console import estimate_table, status_table
from cvbatch.results.predictions import read
from cvbatch.results.summary import run_status
from cvbatch.results.verify import verify_output
from cvbatch.runs.run_record import load_record
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.objects import ObjectServer
from tests.samples import FAILED, photos
from tests.test_pipeline import ROWS, Attempts, Output, Seen, interrupt

LABELS = {"model": "python:m:f"}
VECTORS = {"model": "efficientnet_lite0", "task": "embedding"}
BOXES = {"model": "nanodet_g", "task": "detection"}


class EvolvingOutput(Output):
    """An output whose models change."""

    def models(self, *models: dict[str, Any]) -> Job:
        return self.job(models=list(models))

    def evolve(self, *models: dict[str, Any], **options: Any) -> RunState:
        return evolve_run(self.models(*models), Seen(), start_engine=self.start_engine, **options)

    @property
    def columns(self) -> set[str]:
        return set(read(self.store.root).columns)

    @property
    def aliases(self) -> list[str]:
        plan = load_plan(self.store)
        assert plan is not None
        return [model.alias for model in plan.models]

    @property
    def hidden_folders(self) -> list[str]:
        return [path.name for path in Path(self.store.root, "_cvbatch").glob("evolving*")]


@pytest.fixture
def output(tmp_path: Path) -> EvolvingOutput:
    return EvolvingOutput(tmp_path)


def test_only_a_new_model_is_computed(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    state = output.evolve(LABELS, VECTORS)
    assert state.is_final
    assert output.proven
    assert output.aliases == ["classification", "embedding"]
    assert [model.alias for model in output.engines[-1]._models] == ["embedding"]
    assert output.engines[-1].computed == list(range(ROWS))
    assert output.labelled_by(1) == list(range(ROWS)), "copied"
    assert "embedding_vector" in output.columns
    assert output.hidden_folders == []
    count = len(output.engines)
    assert output.run(output.models(LABELS, VECTORS)).is_final
    assert output.evolve(LABELS, VECTORS).is_final
    assert len(output.engines) == count, "it is finished"
    (earlier,) = run_status(output.store.root, output.log)["earlier_models"]
    assert earlier["models"] == {"classification": "m:f"}


def test_without_the_option_the_difference_is_refused_with_advice(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    with pytest.raises(OtherModelsError, match="belongs to another run"):
        output.run(output.models(LABELS, VECTORS))
    assert describe_evolution(output.models(LABELS, VECTORS)) == "computes embedding; copies classification"


def test_dropping_and_renaming_compute_nothing(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS, VECTORS, BOXES))
    output.evolve({**LABELS, "as": "animal", "task": "classification"}, VECTORS)
    assert len(output.engines) == 1
    assert output.proven
    assert output.aliases == ["animal", "embedding"]
    assert "detection_boxes" not in output.columns
    assert set(read(output.store.root)["animal_label"]) == {"epoch 1"}


def test_a_changed_model_is_computed_anew(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS, BOXES))
    output.evolve(LABELS, {**BOXES, "score_threshold": 0.6})
    assert [model.alias for model in output.engines[-1]._models] == ["detection"]
    assert output.aliases == ["classification", "detection"]
    assert output.proven


def test_two_models_are_added_at_once(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    output.evolve(BOXES, LABELS, VECTORS)
    assert output.aliases == ["detection", "classification", "embedding"]
    assert output.engines[-1].computed == list(range(ROWS))
    assert output.proven


def test_models_change_again_and_again(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    output.evolve(LABELS, VECTORS)
    output.evolve(VECTORS, {**VECTORS, "normalize": True, "as": "unit"}, LABELS)
    assert [model.alias for model in output.engines[-1]._models] == ["unit"]
    output.evolve(LABELS)
    output.evolve(LABELS, VECTORS)
    assert output.aliases == ["classification", "embedding"]
    assert output.labelled_by(1) == list(range(ROWS)), "copied each time"
    earlier = run_status(output.store.root, output.log)["earlier_models"]
    assert [list(entry["models"]) for entry in earlier] == [
        ["classification"],
        ["classification", "embedding"],
        ["embedding", "unit", "classification"],
        ["classification"],
    ]
    assert output.proven


def test_updates_before_and_after_a_change(output: EvolvingOutput) -> None:
    """Images are removed, changed and added before the models change, and after it."""

    def change(*names: str) -> None:
        (output.source / f"{names[0]}.jpg").unlink()
        (output.source / f"{names[1]}.jpg").write_bytes(names[1].encode())
        (output.source / f"{names[2]}.jpg").write_bytes(names[2].encode())

    output.run(output.models(LABELS))
    change("0003", "0005", "new-a")
    output.run(output.models(LABELS), refresh=True)
    state = output.evolve(LABELS, VECTORS)
    assert (state.planned, list(state.removed), state.remaining_rows) == (ROWS + 1, [(3, 4)], 0)
    change("0007", "0009", "new-b")
    state = output.run(output.models(LABELS, VECTORS), refresh=True)
    assert sorted(output.engines[-1].computed) == [9, ROWS + 1]
    assert (state.planned, list(state.removed)) == (ROWS + 2, [(3, 4), (7, 8)])
    frame = read(output.store.root)
    assert frame.row_id.is_unique
    assert output.proven
    output.evolve(VECTORS)
    assert output.proven


def test_an_error_of_either_time_makes_an_error_row(output: EvolvingOutput) -> None:
    output.next = {"failed": {3}}
    output.run(output.models(LABELS))
    output.next = {"failed": {5}}
    output.evolve(LABELS, VECTORS)
    frame = read(output.store.root).set_index("row_id")
    assert frame.index[frame.status == "error"].tolist() == [3, 5]
    assert frame.classification_label.isna().sum() == 2
    assert set(frame.error_type.dropna()) == {FAILED.type}
    assert output.log.state.errors == {FAILED.type: 2}
    assert output.retry("all").is_final
    assert (read(output.store.root).status == "ok").all()
    assert output.proven


def test_an_interruption_loses_nothing(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    output.next = {"after_unit": interrupt}
    with pytest.raises(KeyboardInterrupt):
        output.evolve(LABELS, VECTORS)
    assert output.proven, "the run is as it was"
    assert "embedding_vector" not in output.columns
    output.evolve(LABELS, VECTORS)
    assert len(output.engines[-1].computed) < ROWS
    assert "embedding_vector" in output.columns
    assert output.proven


def test_another_change_of_mind_deletes_what_was_computed(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    output.next = {"after_unit": interrupt}
    with pytest.raises(KeyboardInterrupt):
        output.evolve(LABELS, VECTORS)
    output.evolve(LABELS, BOXES)
    assert output.aliases == ["classification", "detection"]
    assert output.hidden_folders == []
    assert output.proven


class Killed(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("method", ["put_object", "create_object", "add_file", "delete_object"])
def test_a_kill_at_any_write_leaves_the_old_or_the_new_columns(
    output: EvolvingOutput, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The process dies before and after each change of the store, in turn; the same command goes on."""
    original: Callable[..., Any] = getattr(LocalStore, method)
    output.run(output.models(LABELS))
    done, kills = False, 0
    while not done:
        for is_done_before_dying in (False, True):
            calls = 0

            def dying(
                self: LocalStore, *arguments: Any, is_late: bool = is_done_before_dying, allowed: int = kills
            ) -> Any:
                nonlocal calls
                calls += 1
                if calls <= allowed:
                    return original(self, *arguments)
                if is_late:
                    original(self, *arguments)
                raise Killed

            monkeypatch.setattr(LocalStore, method, dying)
            try:
                output.evolve(LABELS, VECTORS)
                done = True
            except Killed:
                pass
            monkeypatch.setattr(LocalStore, method, original)
            frame = read(output.store.root)
            assert frame.row_id.tolist() == list(range(ROWS))
            assert (frame.classification_label == "epoch 1").all()
        kills += 1
        assert kills < 200
    assert kills > 1, "something was killed"
    output.evolve(LABELS, VECTORS)
    assert "embedding_vector" in output.columns
    assert output.proven


@pytest.mark.parametrize("models", [(LABELS, BOXES, VECTORS), (LABELS,)])
@pytest.mark.parametrize("method", ["append_final", "refresh"])
def test_a_plain_run_completes_what_was_killed_after_the_switch(
    output: EvolvingOutput, monkeypatch: pytest.MonkeyPatch, method: str, models: tuple[dict[str, Any], ...]
) -> None:
    output.run(output.models(LABELS, BOXES))
    original: Callable[..., Any] = getattr(CommitLog, method)

    def dying(self: CommitLog) -> Any:
        if self.state.plan_file is not None and "evolving" not in self.store.root:
            raise Killed
        return original(self)

    monkeypatch.setattr(CommitLog, method, dying)
    with pytest.raises(Killed):
        output.evolve(*models)
    monkeypatch.setattr(CommitLog, method, original)
    assert output.run(output.models(*models)).is_final
    assert output.hidden_folders == []
    assert output.proven
    assert [model["alias"] for model in load_record(output.store)["models"]] == output.aliases


def test_a_plain_run_keeps_what_is_being_computed(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    output.next = {"after_unit": lambda: output.run(output.models(LABELS))}
    output.evolve(LABELS, VECTORS)
    assert output.engines[-1].computed == list(range(ROWS))
    assert output.proven


def test_an_update_in_between_is_noticed(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))

    def update() -> None:
        (output.source / "new.jpg").write_bytes(b"new")
        output.run(output.models(LABELS), refresh=True)

    output.next = {"after_unit": update}
    with pytest.raises(OutputError, match="has been updated while"):
        output.evolve(LABELS, VECTORS)
    assert "embedding_vector" not in output.columns
    assert output.evolve(LABELS, VECTORS).planned == ROWS + 1
    assert output.proven
    assert "embedding_vector" in output.columns


def test_stored_answers_stay_where_columns_are_only_added(output: EvolvingOutput) -> None:
    def nonce() -> str:
        plan = load_plan(output.store)
        assert plan is not None
        return plan.nonce

    output.run(output.models(LABELS, BOXES))
    first = nonce()
    output.evolve(LABELS, BOXES, VECTORS)
    assert nonce() == first
    output.evolve(LABELS, {**BOXES, "score_threshold": 0.6}, VECTORS)
    assert nonce() != first, "repeats of other boxes are no longer right"


def test_a_reader_from_before_is_told(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS))
    opened = open_output(output.store.root)
    output.evolve(LABELS, VECTORS)
    with pytest.raises(OutputError, match="models have changed"):
        opened.committed_files()


def test_what_is_no_change_of_models_is_refused(output: EvolvingOutput, tmp_path: Path) -> None:
    output.next = {"after_unit": interrupt}
    with pytest.raises(KeyboardInterrupt):
        output.run(output.models(LABELS))
    with pytest.raises(OutputError, match="is not finished: expected a finished run"):
        output.evolve(LABELS, VECTORS)
    output.run(output.models(LABELS))
    with pytest.raises(OutputError, match=r"source\.exif"):
        evolve_run(
            output.job(source={"exif": True}, models=[LABELS, VECTORS]), Seen(), start_engine=output.start_engine
        )
    assert output.proven


def test_a_run_in_a_bucket(tmp_path: Path, out: str, as_job: ObjectServer) -> None:
    place = Location.from_uri(f"s3://{out}/run", StorageOptions(endpoint_url=as_job.endpoint))
    source, attempts = photos(tmp_path / "photos", ROWS), Attempts(place)

    def asked(*models: dict[str, Any]) -> Job:
        output = {"uri": place.uri, "endpoint_url": as_job.endpoint}
        return Job.model_validate({"source": {"uri": str(source)}, "models": models, "output": output})

    attempts.run(asked(LABELS))
    attempts.next = {"after_unit": interrupt}
    with pytest.raises(KeyboardInterrupt):
        evolve_run(asked(LABELS, VECTORS), Seen(), start_engine=attempts.start_engine)
    evolve_run(asked(LABELS, BOXES), Seen(), start_engine=attempts.start_engine)
    store = open_store(place)
    assert verify_output(store, CommitLog(store, ROWS), deep=True).is_proven
    frame = read(place)
    assert (frame.classification_label == "epoch 1").all()
    assert "detection_boxes" in frame.columns
    names = [name for name in as_job.content(out) if "evolving" in name]
    assert names == [], "nothing hidden is left over"


def test_the_plan_of_other_models_says_what_happens(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS, VECTORS))
    renamed = output.models({**LABELS, "as": "animal", "task": "classification"})
    happens = {"renames": ["classification to animal"], "drops": ["embedding"]}
    assert estimate_job(renamed) == {"images": ROWS, "evolve": happens, "to_go": 0}
    table = estimate_table(estimate_job(renamed))
    assert list(table.columns[1].cells)[-1].plain == "renames classification to animal; drops embedding"


def test_no_rate_is_said_of_a_run_whose_last_attempt_computed_nothing(output: EvolvingOutput) -> None:
    output.run(output.models(LABELS, VECTORS))
    output.evolve(VECTORS)
    status = run_status(output.store.root, output.log)
    assert status["rate"] is None
    status_table(status)


def test_a_new_output_is_a_new_run(output: EvolvingOutput) -> None:
    assert output.evolve(LABELS).is_final
    assert output.proven
    assert len(api.read(output.store.root)) == ROWS
