from __future__ import annotations

import numpy as np

from cvbatch.training.split import choose_validation

KEYS = [f"{index:04x}" for index in range(300)]
STRATA = np.arange(300) % 3


def test_each_stratum_gives_its_share() -> None:
    chosen = choose_validation(KEYS, STRATA, 0.2, 0)
    assert [int(chosen[stratum == STRATA].sum()) for stratum in range(3)] == [20, 20, 20]


def test_images_of_one_key_stay_on_one_side() -> None:
    keys = [f"{index // 5}" for index in range(300)]
    chosen = choose_validation(keys, np.zeros(300, np.int64), 0.3, 1)
    assert all(len(set(chosen[start : start + 5])) == 1 for start in range(0, 300, 5))
    assert 80 <= chosen.sum() <= 95


def test_the_order_of_images_changes_nothing_and_the_seed_does() -> None:
    chosen = choose_validation(KEYS, STRATA, 0.2, 0)
    turned = choose_validation(KEYS[::-1], STRATA[::-1], 0.2, 0)
    assert (turned[::-1] == chosen).all()
    assert (choose_validation(KEYS, STRATA, 0.2, 1) != chosen).any()


def test_more_images_move_few_to_the_other_side() -> None:
    before = choose_validation(KEYS[:290], np.zeros(290, np.int64), 0.2, 0)
    after = choose_validation(KEYS, np.zeros(300, np.int64), 0.2, 0)
    assert (before != after[:290]).sum() <= 6


def test_a_class_of_two_images_has_one_on_each_side_and_one_of_one_is_learned() -> None:
    chosen = choose_validation(["a", "b", "c"], np.array([0, 0, 1]), 0.1, 0)
    assert chosen[:2].sum() == 1
    assert not chosen[2]
