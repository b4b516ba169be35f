"""The views of a run, in each state that it can be in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.sql.views import make_views
from tests.results.sql.samples import BOXES, run_with_boxes
from tests.samples import planned, spec


@pytest.fixture
def opened(tmp_path: Path) -> OpenedOutput:
    return open_output(run_with_boxes(tmp_path).store.root)


def test_the_columns_of_each_view(opened: OpenedOutput) -> None:
    views = {name: view.schema.names for name, view in make_views(opened).items()}
    assert list(views) == ["images", "detections", "segments"]
    assert views["images"] == [*opened.schema.names, "source_removed"]
    boxes = ["label", "label_id", "score", "x_min", "y_min", "x_max", "y_max"]
    assert views["detections"][:9] == ["row_id", "image_uri", *boxes]
    assert views["segments"][:8] == ["row_id", "image_uri", "width", "height", "label", "label_id", "area", "mask"]
    for name in ("detections", "segments"):
        assert {"status", "width", "content_sha256", "source_removed"} < set(views[name])
        assert [column for column in views[name] if "boxes_" in column or "vector" in column] == []


def test_vectors_of_16_bits_are_given_as_32_bits(opened: OpenedOutput) -> None:
    table = make_views(opened)["images"].scanner(columns=["vectors_vector", "row_id"]).to_table()
    assert table.schema.field("vectors_vector").type == pa.list_(pa.float32())
    assert table["vectors_vector"].to_pylist() == [[1, 0], [0.5, 0.5], None, [0, 1]]


def test_several_models_have_a_view_each(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 1, BOXES, spec("more", "detection"))
    assert list(make_views(open_output(store.root))) == ["images", "detections_boxes", "detections_more"]


def test_an_own_column_that_is_called_as_one_of_the_boxes_stays_with_the_images(
    opened: OpenedOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = opened.schema.append(pa.field("Label", pa.string())).append(pa.field("camera", pa.string()))
    monkeypatch.setitem(opened.__dict__, "schema", own)
    names = make_views(opened)["detections"].schema.names
    assert "camera" in names
    assert "Label" not in names


def test_all_views_show_one_moment(tmp_path: Path) -> None:
    log = run_with_boxes(tmp_path)
    opened = open_output(log.store.root)
    before = make_views(opened)
    log.remove_rows([(3, 4)])
    after = make_views(opened)
    removed = [
        [row for table in (view.scanner(columns=["source_removed"]).to_table(),) for row in table[0].to_pylist()]
        for views in (before, after)
        for view in views.values()
    ]
    assert removed == [[False] * 4, [False] * 3, [False] * 2, [False] * 3 + [True], [False] * 2 + [True], [False, True]]
