"""The embedding vectors of a run, with what is needed to choose between alike images, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.models.spec import ModelSpec
from cvbatch.system.control_group import available_memory

_SHARE_OF_MEMORY: Final = 0.25
"""Vectors that take more of the free memory are kept in a temporary file."""
_BLOCK_ROWS: Final = 8192
_SMALLEST_LENGTH: Final = 1e-12
_PAIRS: Final = 1024
"""Whose vectors are in memory at once."""
_CLOSE: Final = 1e-5
"""Float32 products of vectors of 2,048 numbers were wrong by less than 1e-6."""


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Vectors of some rows that have one."""

    positions: npt.NDArray[np.int64]
    """Which rows of the table, (n,)."""
    vectors: npt.NDArray[np.floating]
    """As they are stored, (n, dimension), float16 or float32."""


def take_vectors(table: pa.Table, model: ModelSpec) -> VectorRows:
    """Take the vectors of a table; rows without a vector, or with one of zeros, are left out.

    Args:
        table: Has the column of the model.
        model: An embedding model.
    """
    column = table[vector_column(model)].combine_chunks()
    positions = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if not len(positions):
        return VectorRows(positions, np.empty((0, 0), np.float32))
    values = pc.list_flatten(column)
    if values.null_count:  # no run writes nulls; a vector with them has no direction
        values = values.fill_null(np.nan)
    vectors = values.to_numpy(zero_copy_only=False).reshape(len(positions), -1)
    usable = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    return VectorRows(positions[usable], vectors[usable])


def vector_column(model: ModelSpec) -> str:
    """Column with the vectors of an embedding model."""
    return f"{model.alias}_vector"


def to_unit_vectors(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scale vectors (n, dimension) to length 1, as float32; lengths are computed in float64."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    unit: npt.NDArray[np.float32] = (vectors / np.maximum(lengths, _SMALLEST_LENGTH)[:, None]).astype(np.float32)
    return unit


class VectorFile:
    """Vectors in the order in which they are added: in memory, or in a temporary file if they are too many.

    Args:
        rows: How many vectors to expect; more may come.
        dimension: Length of a vector.
        dtype: As the column stores them, so nothing is lost.
        max_bytes: Most memory; None for a quarter of what is free.
    """

    def __init__(self, rows: int, dimension: int, dtype: npt.DTypeLike, max_bytes: int | None = None) -> None:
        self._limit = int(available_memory() * _SHARE_OF_MEMORY) if max_bytes is None else max_bytes
        self._vectors: npt.NDArray[np.floating] = self._new_array((rows, dimension), np.dtype(dtype))
        self._count = 0

    def __len__(self) -> int:
        """Number of vectors."""
        return self._count

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def is_on_disk(self) -> bool:
        """Whether they are in a temporary file."""
        return isinstance(self._vectors, np.memmap)

    def add(self, vectors: npt.NDArray[np.floating]) -> None:
        """Add vectors (n, dimension)."""
        if self._count + len(vectors) > len(self._vectors):
            self._grow(max(self._count + len(vectors), 2 * len(self._vectors)))
        self._vectors[self._count : self._count + len(vectors)] = vectors
        self._count += len(vectors)

    def _grow(self, rows: int) -> None:
        vectors = self._new_array((rows, self.dimension), self._vectors.dtype)
        vectors[: self._count] = self._vectors[: self._count]
        self._vectors = vectors

    def _new_array(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[np.floating]:
        if not shape[0] or shape[0] * shape[1] * dtype.itemsize <= self._limit:
            return np.empty(shape, dtype)
        with tempfile.TemporaryFile(prefix="cvbatch-") as file:  # without a name: it goes with the process
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)

    def unit_vectors(self, rows: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float32]:
        """Some vectors, scaled to length 1: float32 (n, dimension)."""
        return to_unit_vectors(self._vectors[: self._count][rows])

    def iter_blocks(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield the start of each block of rows, and its vectors scaled to length 1."""
        for start in range(0, self._count, _BLOCK_ROWS):
            yield start, self.unit_vectors(slice(start, start + _BLOCK_ROWS))

    def pair_cosines(
        self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], threshold: float = 0.0
    ) -> npt.NDArray[np.float64]:
        """Cosine of each pair of rows (n,): in float32, and again in float64 where it is close to the threshold."""
        cosines = self._products(first, second, np.float32)
        close = np.flatnonzero(np.abs(cosines - threshold) < _CLOSE)
        cosines[close] = self._products(first[close], second[close], np.float64)
        return cosines

    def _products(
        self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], dtype: npt.DTypeLike
    ) -> npt.NDArray[np.float64]:
        cosines = np.empty(len(first))
        for start in range(0, len(first), _PAIRS):
            part = slice(start, start + _PAIRS)
            one, other = (self._vectors[rows[part]].astype(dtype) for rows in (first, second))
            lengths = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other))
            cosines[part] = np.einsum("ij,ij->i", one, other) / np.maximum(lengths, _SMALLEST_LENGTH**2)
        return cosines
