"""In which order images are learned: decided by seed and epoch alone, whatever the number of workers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_ORDER = 0
"""Distinguishes this use of a seed from others."""


def steps_of_epoch(images: int, batch_size: int) -> int:
    """Steps in which each image is used at most once: an incomplete batch at the end is left out."""
    return max(1, images // batch_size)


def batches_of_epoch(images: int, batch_size: int, seed: int, epoch: int) -> Ints:
    """Positions of the images of each step.

    Args:
        images: Number of images to learn from; with fewer than a batch, a batch has as many.
        batch_size: Over all workers.
        seed: Of the job.
        epoch: From 0 on.

    Returns:
        (steps, batch)
    """
    order = np.random.default_rng((seed, _ORDER, epoch)).permutation(images)
    size = min(batch_size, images)
    steps = steps_of_epoch(images, batch_size)
    return order[: steps * size].reshape(steps, size)


def share_of_worker(batch: Ints, rank: int, workers: int) -> Ints:
    """The images of a batch that one worker computes.

    Args:
        batch: (..., images)
        rank: Number of the worker.
        workers: How many there are.
    """
    return batch[..., rank::workers]
