"""`cvbatch similar`: the images of a run that look most alike a given one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.streaming import RowSelection, iter_rows, read_rows
from cvbatch.results.where import Where
from cvbatch.schema import IMAGE_URI, ROW_ID, SOURCE_REMOVED
from cvbatch.similarity.image_vectors import take_vectors, to_unit_vectors, vector_column
from cvbatch.storage.local_paths import to_local_path
from cvbatch.tasks import EMBEDDING

if TYPE_CHECKING:
    import pandas as pd

Ids = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An image that looks like another one."""

    row_id: int
    image_uri: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarImages:
    """The images that look most alike one image."""

    row_id: int
    image_uri: str
    neighbours: list[Neighbour]
    """The most alike first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarAnswer:
    """For each image that was asked about, the images that look most alike."""

    model: str
    images: int
    """Images that were compared."""
    queries: list[SimilarImages]

    def to_frame(self) -> pd.DataFrame:
        """One row for each neighbour: `query_row_id`, `row_id`, `image_uri`, `cosine`."""
        import pandas as pd

        columns = [f"query_{ROW_ID}", ROW_ID, IMAGE_URI, "cosine"]
        rows = [
            (query.row_id, neighbour.row_id, neighbour.image_uri, neighbour.cosine)
            for query in self.queries
            for neighbour in query.neighbours
        ]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def find_similar(
    output: Output,
    image: str | int | Sequence[str | int],
    *,
    k: int = 20,
    model: str | None = None,
    where: Where = None,
    storage: Storage = None,
) -> SimilarAnswer:
    """Find the images whose embeddings are most alike those of some images, by exact search.

    Args:
        output: The output location.
        image: An image of the run: its `image_uri` or the end of it, such as `2024/a.jpg`, or its `row_id`; or several.
        k: How many images to find for each.
        model: Column prefix of the embedding model; None if there is only one, or for the one called `embedding`.
        where: Search only among images for which this holds.
        storage: Options for an object store.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If there is no such image, several could be meant, or it has no embedding.
    """
    if k < 1:
        raise UsageError(f"expected a number of images from 1 on, got {k}")
    opened = open_output(output, storage)
    spec = opened.find_model(EMBEDDING, model)
    names = [image] if isinstance(image, str | int) else list(image)
    rows = [_find_image(opened, spec, name) for name in names]
    nearest = _NearestRows(np.array([row[0] for row in rows], np.int64), np.stack([row[2] for row in rows]), k)
    columns = [ROW_ID, SOURCE_REMOVED, vector_column(spec)]
    for table in iter_rows(opened, RowSelection(columns=columns, where=where)):
        table = table.filter(pc.invert(table[SOURCE_REMOVED]))
        usable = take_vectors(table, spec)
        nearest.add(table[ROW_ID].to_numpy()[usable.positions], usable.vectors)
    uris = _read_uris(opened, nearest.row_ids)
    queries = [
        SimilarImages(
            row_id=row_id,
            image_uri=uri,
            neighbours=[
                Neighbour(row_id=other, image_uri=uris[other], cosine=cosine)
                for other, cosine in nearest.of_query(index)
            ],
        )
        for index, (row_id, uri, _) in enumerate(rows)
    ]
    return SimilarAnswer(model=spec.alias, images=nearest.images, queries=queries)


class _NearestRows:
    """The nearest rows of each query so far.

    Args:
        query_ids: Row ids of the queries, (q,); a query is not its own neighbour.
        queries: Unit vectors, (q, dimension).
        count: Rows to keep for each query.
    """

    def __init__(self, query_ids: Ids, queries: npt.NDArray[np.float32], count: int) -> None:
        self._query_ids, self._queries, self._count = query_ids, queries, count
        self._row_ids: Ids = np.empty((len(query_ids), 0), np.int64)
        self._cosines: Cosines = np.empty((len(query_ids), 0), np.float32)
        self.images = 0

    @property
    def row_ids(self) -> Ids:
        """All rows that are nearest to a query."""
        return np.unique(self._row_ids)

    def add(self, row_ids: Ids, vectors: npt.NDArray[np.floating]) -> None:
        """Compare rows (n,) with all queries; vectors (n, dimension) as they are stored."""
        if not len(row_ids):
            return
        self.images += len(row_ids)
        cosines = self._queries @ to_unit_vectors(vectors).T
        cosines[self._query_ids[:, None] == row_ids[None]] = -np.inf
        all_ids = np.concatenate([self._row_ids, np.broadcast_to(row_ids, cosines.shape)], axis=1)
        all_cosines = np.concatenate([self._cosines, cosines], axis=1)
        order = np.stack(
            [np.lexsort((ids, -values))[: self._count] for ids, values in zip(all_ids, all_cosines, strict=True)]
        )
        self._row_ids = np.take_along_axis(all_ids, order, axis=1)
        self._cosines = np.take_along_axis(all_cosines, order, axis=1)

    def of_query(self, index: int) -> list[tuple[int, float]]:
        """Row ids and cosines of the nearest rows of one query, the most alike first."""
        pairs = zip(self._row_ids[index].tolist(), self._cosines[index].tolist(), strict=True)
        return [(row_id, min(cosine, 1.0)) for row_id, cosine in pairs if cosine > -np.inf]


def _find_image(opened: OpenedOutput, model: ModelSpec, name: str | int) -> tuple[int, str, npt.NDArray[np.float32]]:
    """Row id, URI and unit vector of the image that a user names."""
    columns = [ROW_ID, IMAGE_URI, vector_column(model)]
    rows = read_rows(opened, RowSelection(columns=columns, where=_condition_for(name)))
    if len(rows) > 1:
        exact = {name, to_local_path(str(name))}
        is_exact = [uri in exact for uri in rows[IMAGE_URI].to_pylist()]
        rows = rows.filter(pa.array(is_exact)) if sum(is_exact) == 1 else rows
    uris = rows[IMAGE_URI].to_pylist()
    if not uris:
        example = read_rows(opened, RowSelection(columns=[IMAGE_URI], where=pads.field(ROW_ID) == 0))[IMAGE_URI]
        hint = f", such as {example[0].as_py()}" if len(example) else ""
        raise UsageError(f"there is no image {name!r}; expected an image_uri of the run or its end{hint}, or a row_id")
    if len(uris) > 1:
        raise UsageError(f"{len(uris)} images end with {name!r}: {', '.join(uris[:3])} …; name one by more of its path")
    usable = take_vectors(rows, model)
    if not len(usable.positions):
        raise UsageError(f"{uris[0]} has no embedding in {model.alias}; choose an image that was read without error")
    return rows[ROW_ID][0].as_py(), uris[0], to_unit_vectors(usable.vectors)[0]


def _condition_for(name: str | int) -> pads.Expression:
    if isinstance(name, int) or name.isdecimal():
        return pads.field(ROW_ID) == int(name)
    uri = pads.field(IMAGE_URI)
    endings = pc.ends_with(uri, pattern="/" + name.lstrip("/")) | pc.equal(uri, name)
    path = to_local_path(name)
    return endings if path is None else endings | pc.equal(uri, path)


def _read_uris(opened: OpenedOutput, row_ids: Ids) -> dict[int, str]:
    condition = pads.field(ROW_ID).isin(row_ids.tolist())
    rows = read_rows(opened, RowSelection(columns=[ROW_ID, IMAGE_URI], where=condition))
    return dict(zip(rows[ROW_ID].to_pylist(), rows[IMAGE_URI].to_pylist(), strict=True))
