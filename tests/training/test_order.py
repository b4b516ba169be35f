from __future__ import annotations

import numpy as np

from cvbatch.training.order import batches_of_epoch, share_of_worker, steps_of_epoch


def test_each_image_comes_once_in_another_order_each_epoch() -> None:
    first, second = (batches_of_epoch(20, 4, 7, epoch) for epoch in (0, 1))
    assert sorted(first.ravel().tolist()) == sorted(second.ravel().tolist()) == list(range(20))
    assert (first != second).any()
    assert (batches_of_epoch(20, 4, 7, 0) == first).all()


def test_an_incomplete_batch_is_left_out_and_a_small_set_is_one_batch() -> None:
    assert batches_of_epoch(10, 4, 0, 0).shape == (2, 4)
    assert batches_of_epoch(3, 4, 0, 0).shape == (1, 3)
    assert (steps_of_epoch(10, 4), steps_of_epoch(3, 4)) == (2, 1)


def test_workers_share_the_batches_of_one() -> None:
    batches = batches_of_epoch(24, 6, 3, 2)
    shares = [share_of_worker(batches, rank, 2) for rank in range(2)]
    joined = np.sort(np.concatenate(shares, axis=1), axis=1)
    assert (joined == np.sort(batches, axis=1)).all()
