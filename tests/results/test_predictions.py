"""A run is read as it stands now: finished, going on, or with a file gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import CorruptionError, OutputError, UsageError
from cvbatch.models.spec import rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import DATA_FOLDER, finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import load_plan, make_plan
from cvbatch.results import elements, predictions
from cvbatch.results.committed import CommittedFiles, OpenedOutput, open_output
from cvbatch.schema import predictions_schema
from cvbatch.sources import open_source
from tests.samples import block, commit, job, planned, spec, started

ROWS = 12


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, CommitLog]:
    """Rows 0 to 3 and 8 to 11 are committed, row 9 in error."""
    store, _ = planned(tmp_path, ROWS)
    log = started(store, ROWS)
    commit(log, 8, 12, failed=[9])
    commit(log, 0, 4)
    return store, log


def test_an_unfinished_run_is_read(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    frame = predictions.read(store.root)
    assert frame["row_id"].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert frame["status"].tolist() == ["ok"] * 5 + ["error"] + ["ok"] * 2
    (store.local_path(DATA_FOLDER) / f"e00000001-{'f' * 32}.parquet").write_bytes(b"not committed")
    commit(log, 4, 8)
    assert len(predictions.read(store.root)) == ROWS


def test_before_anything_is_committed(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, ROWS)
    frame = predictions.read(store.root)
    assert len(frame) == 0
    assert "classification_label" in frame.columns
    assert predictions.open_dataset(store.root).count_rows() == 0


def test_a_finished_run_is_read_by_its_manifest_and_by_pandas(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    commit(log, 4, 8)
    finish_run(log)
    frame = predictions.read(store.root)
    by_pandas = pd.read_parquet(store.root).sort_values("row_id", ignore_index=True)
    assert not frame.pop("source_removed").any()
    pd.testing.assert_frame_equal(frame, by_pandas[frame.columns].astype(frame.dtypes))


def test_columns_and_filter(run: tuple[LocalStore, CommitLog]) -> None:
    store, _ = run
    frame = predictions.read(store.root, columns=["image_uri"], filter=pads.field("status") == "error")
    assert frame.to_dict("list") == {"image_uri": ["/photos/9.jpg"]}
    assert list(predictions.read(store.root, columns=["status", "row_id"]).columns) == ["status", "row_id"]


def test_an_arrow_dataset(run: tuple[LocalStore, CommitLog]) -> None:
    dataset = predictions.open_dataset(run[0].root)
    assert dataset.count_rows() == 8
    assert dataset.schema.names == predictions_schema(spec().column_fields()).names


def test_a_file_that_is_replaced_during_reading(
    run: tuple[LocalStore, CommitLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, log = run
    opened = open_output(store.root)
    before = opened.committed_files()
    store.delete_object(before.files[0].path)
    commit(log, 4, 8)
    now = opened.committed_files()
    answers = [before, CommittedFiles([file for file in now.files if file != before.files[0]], [])]
    monkeypatch.setattr(OpenedOutput, "committed_files", lambda _: answers.pop(0))
    assert predictions.read(store.root)["row_id"].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]


def test_a_missing_file_is_corruption(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    store.delete_object(next(iter(log.state.files)))
    with pytest.raises(CorruptionError, match="a committed file is missing"):
        predictions.read(store.root)


def test_removed_images_are_marked_before_and_after_the_end(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    log.remove_rows([(2, 4), (10, 11)])
    frame = predictions.read(store.root)
    assert frame.loc[frame["source_removed"], "row_id"].tolist() == [2, 3, 10]
    commit(log, 4, 8)
    finish_run(log)
    frame = predictions.read(store.root)
    assert frame.loc[frame["source_removed"], "row_id"].tolist() == [2, 3, 10]
    assert len(frame) == ROWS, "their rows stay"
    again = started(store, ROWS)
    again.remove_rows([(0, 1)], back=[(2, 3)])
    frame = predictions.read(store.root)
    assert frame.loc[frame["source_removed"], "row_id"].tolist() == [0, 3, 10]


def test_source_removed_can_be_selected_like_a_column(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    log.remove_rows([(9, 11)])
    assert predictions.read(store.root, columns=["source_removed"])["source_removed"].tolist() == [
        row in (9, 10) for row in (0, 1, 2, 3, 8, 9, 10, 11)
    ]
    frame = predictions.read(store.root, columns=["source_removed", "row_id"], filter=pads.field("status") == "error")
    assert frame.to_dict("list") == {"source_removed": [True], "row_id": [9]}
    assert "source_removed" not in predictions.read(store.root, columns=["row_id"]).columns
    assert "source_removed" not in predictions.open_dataset(store.root).schema.names


def test_replaced_rows_are_not_read(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    commit(log, 4, 8)
    finish_run(log)
    second = started(store, ROWS)
    [old] = [file for file in second.state.files.values() if file.errors]
    new = write_data_files(_job(store, second.epoch), [block(9, 10, classification_label=["cat"])]).files
    assert (predictions.read(store.root)["status"] == "error").sum() == 1, "it is written, but does not count yet"
    second.replace_files([old.path], new, [(9, 10)])
    assert old.path in store.list_sizes(DATA_FOLDER)
    for _ in range(2):  # while it goes on, and when it is finished
        frame = predictions.read(store.root)
        assert frame["row_id"].tolist() == list(range(ROWS))
        assert (frame["status"].tolist()[9], frame["classification_label"].tolist()[9]) == ("ok", "cat")
        if not second.state.is_final:
            finish_run(second)
    assert old.path not in store.list_sizes(DATA_FOLDER)
    assert pd.read_parquet(store.root)["row_id"].sort_values().tolist() == list(range(ROWS))


def test_a_reader_repeats_when_a_retry_replaces_files(
    run: tuple[LocalStore, CommitLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, log = run
    commit(log, 4, 8)
    finish_run(log)
    open_dataset, overtakes = OpenedOutput.open_files, [True]

    def overtaken(*arguments: Any) -> Any:
        dataset = open_dataset(*arguments)
        if overtakes.pop():
            second = started(store, ROWS)
            [old] = [file for file in second.state.files.values() if file.errors]
            second.replace_files(
                [old.path], write_data_files(_job(store, second.epoch), [block(9, 10)]).files, [(9, 10)]
            )
            finish_run(second)
            overtakes.append(False)
        return dataset

    monkeypatch.setattr(OpenedOutput, "open_files", overtaken)
    frame = predictions.read(store.root)
    assert frame["row_id"].tolist() == list(range(ROWS))
    assert set(frame["status"]) == {"ok"}


def _job(store: LocalStore, epoch: int) -> WriteContext:
    return WriteContext(store.root, epoch, predictions_schema(spec().column_fields()))


def _plan(store: LocalStore) -> Any:
    plan = load_plan(store)
    assert plan is not None
    return plan


@pytest.mark.parametrize(("output", "message"), [("nowhere", "nowhere does not exist"), ("file", "file holds no run")])
def test_no_run(tmp_path: Path, output: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        predictions.read(str(tmp_path / output))


def committed(tmp_path: Path, models: list[Any], rows: int, **columns: Any) -> str:
    store, plan = planned(tmp_path, rows, *models)
    log = started(store, plan.rows)
    schema = rows_schema(models)
    failed = [row for row in range(rows) if all(values[row] is None for values in columns.values())]
    table = block(0, rows, *models, failed=failed, **columns)
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [table]).files)
    return store.root


def test_detections_are_one_row_per_box(tmp_path: Path) -> None:
    output = committed(
        tmp_path,
        [spec("det", "detection", masks=True, keypoints=True)],
        4,
        det_boxes=[[[0, 1, 2, 3], [4, 5, 6.5, 7]], None, [], [[1, 1, 2, 2]]],
        det_labels=[["a", "b"], None, [], ["b"]],
        det_label_ids=[[0, 2], None, [], [2]],
        det_scores=[[0.9, 0.5], None, [], [0.25]],
        det_masks=[[b"m0", b"m1"], None, [], [b"m2"]],
        det_keypoints=[[[1, 2, 3], [4, 5, 6]], None, [], [[7, 8, 9]]],
    )
    frame = elements.read_detections(output, "det")
    assert list(frame.columns) == [
        "row_id", "image_uri", "label", "label_id", "score", "x_min", "y_min", "x_max", "y_max", "mask", "keypoints"
    ]  # fmt: skip
    assert frame["row_id"].tolist() == [0, 0, 3]
    assert frame[["label", "label_id", "mask"]].to_numpy().tolist() == [
        ["a", 0, b"m0"],
        ["b", 2, b"m1"],
        ["b", 2, b"m2"],
    ]
    np.testing.assert_array_equal(
        frame[["x_min", "y_min", "x_max", "y_max"]], [[0, 1, 2, 3], [4, 5, 6.5, 7], [1, 1, 2, 2]]
    )
    assert [list(points) for points in frame["keypoints"]] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert pd.api.types.is_integer_dtype(frame["label_id"])
    assert pd.api.types.is_float_dtype(frame["score"])


def test_segments_are_one_row_per_class(tmp_path: Path) -> None:
    output = committed(
        tmp_path,
        [spec("segmentation", "segmentation")],
        3,
        segmentation_labels=[["a", "b"], [], None],
        segmentation_label_ids=[[0, 2], [], None],
        segmentation_areas=[[0.25, 0.5], [], None],
        segmentation_masks=[[b"m0", b"m1"], [], None],
        width=[4, 4, None],
        height=[2, 2, None],
    )
    frame = elements.read_segments(output)
    assert list(frame.columns) == ["row_id", "image_uri", "width", "height", "label", "label_id", "area", "mask"]
    assert frame[["row_id", "width", "label", "area"]].to_numpy().tolist() == [[0, 4, "a", 0.25], [0, 4, "b", 0.5]]


@pytest.mark.parametrize("boxes", [[], [[], None]])
def test_no_boxes_at_all(tmp_path: Path, boxes: list[Any]) -> None:
    models = [spec("detection", "detection")]
    lists = {f"detection_{name}": boxes for name in ("boxes", "labels", "label_ids", "scores")}
    output = committed(tmp_path, models, 2, **lists) if boxes else planned(tmp_path, 2, *models)[0].root
    frame = elements.read_detections(output)
    assert len(frame) == 0
    assert {"label", "score", "x_min", "y_max"} <= set(frame.columns)


def test_models_are_selected_by_alias(tmp_path: Path) -> None:
    output = planned(tmp_path, 2, spec("tags"), spec("boxes", "detection"))[0].root
    assert predictions.label_map(output, "tags") == {0: "a", 2: "b"}
    with pytest.raises(OutputError, match="has no model 'x'; it has tags, boxes"):
        predictions.label_map(output, "x")
    with pytest.raises(OutputError, match="has no detection model 'detection'; it has boxes"):
        elements.read_detections(output, "detection")
    with pytest.raises(OutputError, match=r"has no segmentation model 'tags'; it has tags \(classification\), b"):
        elements.read_segments(output, "tags")


def test_columns_of_a_manifest_are_read_unchanged(tmp_path: Path) -> None:
    mine = pa.array([5, None], pa.duration("s"))
    pq.write_table(pa.table({"uri": ["a", "b"], "mine": mine}), tmp_path / "m.parquet")
    store = LocalStore(str(tmp_path / "out"))
    asked = job(tmp_path / "m.parquet")
    plan = make_plan(store, asked, [spec()], open_source(asked.source))
    log = started(store, plan.rows)
    schema = predictions_schema(spec().column_fields(), extra_columns=plan.extra_columns(store))
    table = block(0, 2).append_column("mine", mine)
    log.commit_files(write_data_files(WriteContext(store.root, 1, schema), [table]).files)
    assert predictions.open_dataset(store.root).to_table()["mine"].combine_chunks() == mine


def test_two_conditions_are_refused(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 2)
    with pytest.raises(UsageError, match="expected one condition, got filter= and where="):
        predictions.read(store.root, filter=pads.field("row_id") == 1, where="row_id = 0")
