"""The images of a run that are compared, in the order of preference, with what an earlier answer knows about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where, check_names
from cvbatch.schema import CONTENT_SHA256, HEIGHT, IMAGE_BYTES, OK, ROW_ID, SOURCE_REMOVED, STATUS, WIDTH
from cvbatch.similarity.content_groups import Digests, digests_from
from cvbatch.similarity.image_vectors import VectorFile, take_vectors, vector_column

Ids = npt.NDArray[np.int64]
_NO_VECTOR: Final = -1


@dataclass(slots=True)
class ComparableImages:
    """Images that took part; all arrays are (n,)."""

    row_ids: Ids
    digests: Digests
    preference: npt.NDArray[np.float64]
    """Value of the column that the user prefers by; larger is better."""
    pixels: Ids
    image_bytes: Ids
    vector_numbers: Ids
    """Number of the vector of each image, or −1."""
    vectors: VectorFile | None
    excluded: dict[str, int] = field(default_factory=dict)
    """How many images did not take part, by reason."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.row_ids)

    @property
    def has_vector(self) -> npt.NDArray[np.bool_]:
        """Whether each image has a vector."""
        has_vector: npt.NDArray[np.bool_] = self.vector_numbers != _NO_VECTOR
        return has_vector


def load_comparable_images(
    opened: OpenedOutput,
    model: ModelSpec | None,
    *,
    where: Where = None,
    prefer: str | None = None,
) -> ComparableImages:
    """Read the images of a run that can be compared.

    Args:
        opened: The run.
        model: Embedding model; None if only the content is compared.
        where: Only images for which this holds.
        prefer: Column whose largest value is preferred.

    Raises:
        UsageError: If there is no such column, or it holds no numbers.
    """
    columns = [ROW_ID, STATUS, SOURCE_REMOVED, CONTENT_SHA256, WIDTH, HEIGHT, IMAGE_BYTES]
    if prefer is not None:
        _check_numeric(opened.schema, prefer)
        columns.append(prefer)
    if model is not None:
        columns.append(vector_column(model))
    collected = _Collected(opened, model, prefer)
    for table in iter_rows(opened, RowSelection(columns=list(dict.fromkeys(columns)), where=where)):
        collected.add(table)
    return collected.finish()


class _Collected:
    """Arrays of the tables so far."""

    def __init__(self, opened: OpenedOutput, model: ModelSpec | None, prefer: str | None) -> None:
        self._opened, self._model, self._prefer = opened, model, prefer
        self._parts: list[tuple[Any, ...]] = []
        self._vectors: VectorFile | None = None
        self._excluded = Counter[str]()

    def add(self, table: pa.Table) -> None:
        """Add the usable rows of a table."""
        is_removed = table[SOURCE_REMOVED]
        is_usable = pc.and_(pc.equal(table[STATUS], OK), pc.is_valid(table[CONTENT_SHA256]))
        self._excluded["removed from the source"] += pc.sum(is_removed).as_py() or 0
        self._excluded["errors"] += pc.sum(pc.and_not(pc.invert(is_usable), is_removed)).as_py() or 0
        table = table.filter(pc.and_not(is_usable, is_removed))
        numbers = np.full(len(table), _NO_VECTOR)
        if self._model is not None and len(table):
            rows = take_vectors(table, self._model)
            if len(rows.positions):
                numbers[rows.positions] = self._add_vectors(rows.vectors)
            self._excluded["without a vector"] += len(table) - len(rows.positions)
        preference = np.zeros(len(table))
        if self._prefer is not None:
            values = pc.fill_null(pc.cast(table[self._prefer], pa.float64()), -np.inf)
            preference = np.nan_to_num(values.to_numpy(), nan=-np.inf, neginf=-np.inf, posinf=np.inf)
        sizes = [pc.fill_null(pc.cast(table[name], pa.int64()), 0).to_numpy() for name in (WIDTH, HEIGHT, IMAGE_BYTES)]
        digests = digests_from(table[CONTENT_SHA256])
        self._parts.append((table[ROW_ID].to_numpy(), digests, preference, sizes[0] * sizes[1], sizes[2], numbers))

    def _add_vectors(self, vectors: npt.NDArray[np.floating]) -> Ids:
        """Keep vectors; returns their numbers."""
        if self._vectors is None:
            rows = sum(file.row_count for file in self._opened.committed_files().files)
            self._vectors = VectorFile(rows, vectors.shape[1], vectors.dtype)
        count = len(self._vectors)
        self._vectors.add(vectors)
        return np.arange(count, count + len(vectors))

    def finish(self) -> ComparableImages:
        """All that was added."""
        empty = np.empty(0, np.int64)
        parts = self._parts or [(empty, np.empty((0, 2), np.uint64), np.empty(0), empty, empty, empty)]
        row_ids, digests, preference, pixels, image_bytes, numbers = map(np.concatenate, zip(*parts, strict=True))
        return ComparableImages(
            row_ids, digests, preference, pixels, image_bytes, numbers, self._vectors, dict(self._excluded)
        )


def _check_numeric(schema: pa.Schema, name: str) -> None:
    numeric = [
        column.name
        for column in schema
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    ]
    if name in schema.names and name not in numeric:
        raise UsageError(f"expected a column of numbers to prefer images by, such as {WIDTH}, got {name}")
    check_names("column", [name], numeric)
