"""How far two samples of vectors are apart: Fréchet distance, and maximum mean discrepancy with a permutation test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.drift.statistics import PERMUTATIONS, permutation_p

Vectors = npt.NDArray[np.floating[Any]]
_BLOCK_ROWS: Final = 4096
_FREQUENCIES: Final = 512
"""Random features are twice as many: a cosine and a sine for each."""
_MEDIAN_ROWS: Final = 1000
"""Rows whose distances give the width of the kernel."""
_DIMENSIONS: Final = 64
"""Principal components in which the Fréchet distance is measured."""
_ROWS_PER_DIMENSION: Final = 10
_SPLITS: Final = 20
"""Random splits that tell which Fréchet distance chance gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorShift:
    """The difference of two samples of vectors."""

    effect: float
    """Root of the Fréchet distance over that of chance, in units of the spread of the reference; at most 1."""
    p: float
    """Of the maximum mean discrepancy, by permutation."""
    frechet: float
    """Squared Fréchet distance in the first principal components."""
    frechet_by_chance: float
    """Mean of the same for random splits of both samples."""
    dimensions: int
    """Number of principal components."""
    variance_share: float
    """The part of the variance of all vectors that they hold."""
    mmd: float
    """Squared maximum mean discrepancy over that of chance."""
    unlikeness: npt.NDArray[np.float64]
    """For each vector of the second sample, how much more its like is there than in the reference: the witness
    function of Gretton et al. 2012."""


def compare_vectors(reference: Vectors, vectors: Vectors, seed: int) -> VectorShift:
    """Compare two samples of vectors, in memory for a few thousand rows besides the samples.

    The Fréchet distance is that between two normal distributions (Heusel et al. 2017). With fewer rows than dimensions
    it measures little but noise, so it is taken in the first principal components of both samples, at most one for
    ten rows.

    The maximum mean discrepancy (Gretton et al. 2012) with a Gaussian kernel, as wide as the median distance, takes
    time with the square of the rows. It is computed from 1,024 random features of the kernel instead (Rahimi and Recht
    2007), in linear time. The permutation test holds its level with these just as with the kernel itself.

    Args:
        reference: (n, dimension)
        vectors: (m, dimension)
        seed: Of features and permutations.
    """
    random = np.random.default_rng(seed)
    axes, mean, total = _principal_axes(reference, vectors)
    first, second = (_project(part, axes, mean) for part in (reference, vectors))
    frechet = frechet_distance(first, second)
    both = np.concatenate([first, second])
    splits = [random.permutation(len(both)) for _ in range(_SPLITS)]
    by_chance = float(
        np.mean([frechet_distance(both[split[: len(first)]], both[split[len(first) :]]) for split in splits])
    )
    spread = float(first.var(axis=0).sum())
    excess = max(0.0, frechet - by_chance) / spread if spread > 0 else float(frechet > by_chance)
    mmd, p, unlikeness = _mean_discrepancy(reference, vectors, random)
    return VectorShift(
        effect=min(1.0, excess**0.5),
        p=p,
        frechet=frechet,
        frechet_by_chance=by_chance,
        dimensions=axes.shape[1],
        variance_share=float(both.var(axis=0).sum() / total) if total > 0 else 1.0,
        mmd=mmd,
        unlikeness=unlikeness,
    )


def frechet_distance(first: Vectors, second: Vectors) -> float:
    """Squared Fréchet distance of the normal distributions with the means and covariances of two samples.

    Args:
        first: (n, dimension)
        second: (m, dimension)
    """
    shift = first.mean(axis=0) - second.mean(axis=0)
    covariances = [np.atleast_2d(np.cov(part, rowvar=False)) for part in (first, second)]
    values, axes = np.linalg.eigh(covariances[0])
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    product = np.linalg.eigvalsh(root @ covariances[1] @ root)
    traces = float(np.trace(covariances[0]) + np.trace(covariances[1]))
    return max(0.0, float(shift @ shift) + traces - 2 * float(np.sqrt(np.maximum(product, 0)).sum()))


def _principal_axes(
    reference: Vectors, vectors: Vectors
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """The first principal axes of both samples (dimension, k), their mean, and the variance in all dimensions."""
    rows, dimension = len(reference) + len(vectors), reference.shape[1]
    mean, covariance = np.zeros(dimension), np.zeros((dimension, dimension))
    for block in _blocks(reference, vectors):
        mean += block.sum(axis=0) / rows
    for block in _blocks(reference, vectors):
        centred = block - mean
        covariance += centred.T @ centred / rows
    values, axes = np.linalg.eigh(covariance)
    count = max(1, min(_DIMENSIONS, dimension, min(len(reference), len(vectors)) // _ROWS_PER_DIMENSION))
    return axes[:, ::-1][:, :count], mean, float(values.sum())


def _project(part: Vectors, axes: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([(block - mean) @ axes for block in _blocks(part)])


def _mean_discrepancy(
    reference: Vectors, vectors: Vectors, random: np.random.Generator
) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Squared discrepancy over that of chance, its p, and the witness function of the second sample."""
    rows, size = len(reference) + len(vectors), len(vectors)
    draws = random.normal(size=(reference.shape[1], _FREQUENCIES))
    frequencies = (draws / _kernel_width(reference, vectors, random)).astype(np.float32)
    chosen = np.zeros((1 + PERMUTATIONS, rows), np.bool_)  # the first one is the second sample itself
    chosen[0, len(reference) :] = True
    for row in chosen[1:]:
        row[random.permutation(rows)[:size]] = True
    sums = np.zeros((1 + PERMUTATIONS, 2 * _FREQUENCIES), np.float64)
    total, start = np.zeros(2 * _FREQUENCIES), 0
    for block in _blocks(reference, vectors):
        features = _features(block, frequencies)
        total += features.sum(axis=0)
        sums += chosen[:, start : start + len(block)].astype(np.float32) @ features
        start += len(block)
    differences = sums / size - (total - sums) / (rows - size)
    discrepancies = np.square(differences).sum(axis=1)
    unlikeness = np.concatenate([_features(block, frequencies) @ differences[0] for block in _blocks(vectors)])
    by_chance = discrepancies[1:]
    return (
        max(0.0, float(discrepancies[0] - by_chance.mean())),
        permutation_p(float(discrepancies[0]), by_chance),
        unlikeness,
    )


def _kernel_width(reference: Vectors, vectors: Vectors, random: np.random.Generator) -> float:
    """Median distance of two vectors of both samples."""
    parts = [
        part[np.sort(random.permutation(len(part))[: _MEDIAN_ROWS // 2])].astype(np.float64)
        for part in (reference, vectors)
    ]
    sample = np.concatenate(parts)
    squares = np.square(sample).sum(axis=1)
    distances = squares[:, None] + squares - 2 * sample @ sample.T
    median = float(np.median(distances[np.triu_indices(len(sample), 1)]))
    return math.sqrt(max(median, 1e-30))


def _features(block: npt.NDArray[np.float64], frequencies: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Random features of a Gaussian kernel: products of two rows are the kernel, in the mean; (rows, features)."""
    angles = block.astype(np.float32) @ frequencies
    features: npt.NDArray[np.float32] = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    features /= np.float32(np.sqrt(_FREQUENCIES))
    return features


def _blocks(*parts: Vectors) -> Iterator[npt.NDArray[np.float64]]:
    for part in parts:
        for start in range(0, len(part), _BLOCK_ROWS):
            yield part[start : start + _BLOCK_ROWS].astype(np.float64)
