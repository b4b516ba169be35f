"""Groups are those of a plain loop over all pairs, whatever products find the pairs, and hold no pair by a chain."""

from __future__ import annotations

import numpy as np
import pytest
import ray

from cvbatch.engine.cluster_tasks import attach_to_cluster
from cvbatch.errors import UsageError
from cvbatch.inference.torch.bfloat16_screen import BFloat16Screen
from cvbatch.similarity import cluster_search, star_groups
from cvbatch.similarity.image_vectors import VectorFile
from cvbatch.similarity.product_screen import FloatScreen
from cvbatch.similarity.star_groups import group_around_representatives
from tests.similarity.vectors import embeddings, turned


def vector_file(vectors: np.ndarray, **options: int) -> VectorFile:
    file = VectorFile(len(vectors) // 2, vectors.shape[1], vectors.dtype, **options)
    for start in range(0, len(vectors), 1000):
        file.add(vectors[start : start + 1000])
    return file


def representatives_of_plain_loop(vectors: np.ndarray, order: np.ndarray, threshold: float) -> list[int]:
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    chosen: list[int] = []
    for row in order:
        if not chosen or (unit[chosen] @ unit[row]).max() < threshold - 1e-6:
            chosen.append(int(row))
    return sorted(chosen)


@pytest.mark.parametrize("screen", [FloatScreen, BFloat16Screen])
@pytest.mark.parametrize(("threshold", "noise"), [(0.97, 0.1), (0.8, 0.3)])
@pytest.mark.parametrize("max_bytes", [0, 1 << 30])
def test_groups_are_those_of_a_plain_loop(
    screen: type, threshold: float, noise: float, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(star_groups, "choose_screen", lambda rows, width: screen())
    vectors = embeddings(3000, 96, groups=600, noise=noise).astype(np.float16)
    order = np.random.default_rng(1).permutation(len(vectors))
    file = vector_file(vectors, max_bytes=max_bytes)
    assert file.is_on_disk == (max_bytes == 0)
    groups = group_around_representatives(file, order, threshold)
    expected = representatives_of_plain_loop(vectors, order, threshold)
    assert np.unique(groups.representatives).tolist() == expected
    assert 1 < len(expected) < len(vectors)
    cosines = file.pair_cosines(np.arange(len(vectors)), groups.representatives)
    assert cosines.min() >= threshold - 1e-6
    np.testing.assert_allclose(groups.cosines, cosines, atol=1e-6)


def test_narrow_sketches_are_used_and_miss_nothing() -> None:
    vectors = embeddings(4000, 256, groups=700)
    groups = group_around_representatives(vector_file(vectors), np.arange(4000), 0.97)
    assert "products of 256 of" not in groups.products
    assert np.unique(groups.representatives).tolist() == representatives_of_plain_loop(vectors, np.arange(4000), 0.97)


def test_a_chain_is_no_group() -> None:
    """Each vector is 10 degrees from the next; connected components would make one group of all of them."""
    angles = np.cumsum([0, *(10 + 0.02 * step for step in range(8))])
    vectors = np.array([turned(float(angle)) for angle in angles], np.float32)
    threshold = float(np.cos(np.radians(10.5)))
    groups = group_around_representatives(vector_file(vectors), np.arange(9), threshold)
    assert groups.representatives.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]
    second_first = group_around_representatives(vector_file(vectors), np.array([1, 0, *range(2, 9)]), threshold)
    assert second_first.representatives.tolist() == [1, 1, 1, 3, 3, 5, 5, 7, 7]


def test_many_equal_vectors_take_no_memory_for_their_pairs() -> None:
    vectors = np.ones((20_000, 16), np.float16)
    groups = group_around_representatives(vector_file(vectors), np.arange(20_000), 1.0)
    assert set(groups.representatives.tolist()) == {0}
    assert groups.cosines.min() == 1


def test_known_representatives_are_not_compared_with_each_other() -> None:
    vectors = np.array([turned(0), turned(1), turned(2), turned(60)], np.float32)
    groups = group_around_representatives(vector_file(vectors), np.array([0, 1, 2, 3]), 0.99, known=2)
    assert groups.representatives.tolist() == [0, 1, 1, 3]


def test_no_vectors_are_no_groups() -> None:
    groups = group_around_representatives(VectorFile(0, 4, np.float32), np.arange(0), 0.9)
    assert len(groups.representatives) == 0


def test_a_cluster_gives_the_same_groups(ray_head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.shutdown()  # other tests of this process may have attached it
    monkeypatch.setenv("RAY_ADDRESS", ray_head)
    monkeypatch.setattr(star_groups, "choose_screen", lambda rows, width: BFloat16Screen())
    monkeypatch.setattr(star_groups, "BATCH_ROWS", 1500)
    monkeypatch.setattr(cluster_search, "_PART_ROWS", 700)
    vectors = embeddings(4000, 64, groups=900)
    expected = group_around_representatives(vector_file(vectors), np.arange(4000), 0.97, known=1)
    with attach_to_cluster("the test") as tasks:
        groups = group_around_representatives(vector_file(vectors), np.arange(4000), 0.97, known=1, tasks=tasks)
    assert groups.representatives.tolist() == expected.representatives.tolist()
    np.testing.assert_allclose(groups.cosines, expected.cosines, atol=1e-6)


def test_a_cluster_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(UsageError, match="the test: expected RAY_ADDRESS to name a cluster"),
        attach_to_cluster("the test"),
    ):
        pass
