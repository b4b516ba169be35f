"""Which of the candidates are shown: some of each kind, and no two that look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.models.spec import ModelSpec
from cvbatch.report.candidates import FAILED, RANDOM, RARE, SURE, UNSURE
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.sampling.measures import LABEL_ID
from cvbatch.sampling.selection import Selection
from cvbatch.schema import CONTENT_SHA256, ROW_ID
from cvbatch.similarity.image_vectors import take_vectors, vector_column

MAX_COSINE: Final = 0.97
"""Images whose vectors have at least this cosine look alike; as `cvbatch sample` takes it."""
SHARES: Final[Mapping[str, float]] = {FAILED: 0.1, RARE: 0.2, UNSURE: 0.25, SURE: 0.25, RANDOM: 1.0}
"""Most images of each kind, as a share of all, in the order of choice; what is not used goes to those by chance."""
CANDIDATES_FOR_EACH: Final = 6
"""Candidates of a kind for each image of it that is shown."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of one kind, the best first."""

    reason: str
    tables: Sequence[pa.Table | None]
    """One for each model."""


def choose_images(
    opened: OpenedOutput,
    kinds: Sequence[Candidates],
    count: int,
    embedding: ModelSpec | None,
    already: Mapping[int, str],
) -> dict[int, str]:
    """Choose images to show.

    Args:
        opened: The run.
        kinds: In the order of choice.
        count: Most images.
        embedding: Model whose vectors tell what looks alike; None if only the content does.
        already: Reasons of the images that are shown anyway, by row id.

    Returns:
        The reason for each, by row id; those of `already` first.
    """
    chosen = dict(list(already.items())[:count])
    pool = _join_candidates(opened, kinds, embedding)
    row_ids = pool[ROW_ID].to_numpy()
    column = None if embedding is None else vector_column(embedding)
    selection = Selection(pool, pool.slice(0, 0), vector_column=column, max_cosine=MAX_COSINE, budget={})
    places = {int(row_id): place for place, row_id in enumerate(row_ids)}
    for kind in kinds:
        room = min(round(SHARES[kind.reason] * count), count - len(chosen))
        for row_id in _take_in_turn(kind.tables):
            if room <= 0:
                break
            if row_id not in chosen and selection.open[places[row_id]]:
                selection.add(places[row_id])
                chosen[row_id] = kind.reason
                room -= 1
    return chosen


def _take_in_turn(tables: Sequence[pa.Table | None]) -> list[int]:
    """Row ids of several tables: the first of each, then the second of each, and so on."""
    lists = [table[ROW_ID].to_pylist() for table in tables if table is not None]
    longest = max(map(len, lists), default=0)
    return list(dict.fromkeys(ids[place] for place in range(longest) for ids in lists if place < len(ids)))


def _join_candidates(opened: OpenedOutput, kinds: Sequence[Candidates], embedding: ModelSpec | None) -> pa.Table:
    """All candidates once, with what `Selection` needs; those without a vector get one of zeros, which is like none."""
    tables = [table.select([ROW_ID, CONTENT_SHA256]) for kind in kinds for table in kind.tables if table is not None]
    if not tables:
        tables = [pa.table({ROW_ID: pa.array([], pa.int64()), CONTENT_SHA256: pa.array([], pa.string())})]
    table = pa.concat_tables(tables)
    _, first = np.unique(table[ROW_ID].to_numpy(), return_index=True)
    table = table.take(pa.array(first)).combine_chunks()
    table = table.append_column(LABEL_ID, pa.array(np.full(table.num_rows, -1)))
    if embedding is None:
        return table
    return table.append_column(vector_column(embedding), _read_vectors(opened, embedding, table[ROW_ID].to_numpy()))


def _read_vectors(opened: OpenedOutput, embedding: ModelSpec, row_ids: npt.NDArray[np.int64]) -> pa.Array:
    """Vectors (images, dimension) as lists; zeros for an image without one."""
    condition = pads.field(ROW_ID).isin(pa.array(row_ids))
    columns = [ROW_ID, vector_column(embedding)]
    vectors = np.zeros((len(row_ids), 1), np.float32)
    for rows in iter_rows(opened, RowSelection(columns=columns, where=condition)):
        usable = take_vectors(rows, embedding)
        if not len(usable.positions):
            continue
        if vectors.shape[1] != usable.vectors.shape[1]:
            vectors = np.zeros((len(row_ids), usable.vectors.shape[1]), np.float32)
        vectors[np.searchsorted(row_ids, rows[ROW_ID].to_numpy()[usable.positions])] = usable.vectors
    offsets = pa.array(np.arange(len(row_ids) + 1) * vectors.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
