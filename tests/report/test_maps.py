"""Images with alike vectors are near each other on the map, and the map is the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvbatch.report.label_values import LabelReader
from cvbatch.report.maps import draw_maps, place_points, principal_components
from tests.report.runs import OTHER, TAGS, VECTORS, small_run


@pytest.mark.parametrize(("each", "method"), [(10, "PCA"), (40, "t-SNE")])
def test_alike_vectors_are_near_each_other(each: int, method: str) -> None:
    if method == "t-SNE":
        pytest.importorskip("openTSNE")
    noise = np.random.default_rng(0).normal(size=(3 * each, 16)) / 20
    vectors = (np.repeat(np.eye(3, 16), each, axis=0) + noise).astype(np.float32)
    points, name = place_points(vectors)
    assert name == method
    assert (points.min(), points.max()) == (0, 1)
    centres = points.reshape(3, each, 2).mean(axis=1)
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    assert (distances.argmin(axis=1) == np.repeat(np.arange(3), each)).all()
    assert np.array_equal(points, place_points(vectors)[0])


def test_components_have_the_variance_of_the_vectors() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    components = principal_components(vectors, 6)
    assert np.var(components, axis=0).sum() == pytest.approx(np.var(vectors, axis=0).sum(), rel=1e-4)
    assert principal_components(vectors[:, :1], 6).shape == (50, 2)


def test_a_map_has_the_usable_images_and_their_labels(tmp_path: Path) -> None:
    run = small_run(tmp_path, [f"{row:02d}.jpg".encode() for row in range(14)], failed={4: OTHER})
    (drawn,) = draw_maps(run.opened, VECTORS, [LabelReader(TAGS)], {2})
    assert sorted(drawn.row_ids) == [row for row in range(14) if row != 4]
    assert drawn.method == "PCA of 13 of 13 images"
    assert {row: drawn.labels[label] for row, label in zip(drawn.row_ids, drawn.label_of_point, strict=True)}[6] == (
        "</script><b>"
    )
    assert draw_maps(run.opened, None, [], {2}) == []
