"""`cvbatch cluster`: what kinds of images a run has, by k-means on their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.errors import OutputError, UsageError
from cvbatch.output.row_ranges import ranges_of_rows
from cvbatch.results.answer_files import AnswerRecord, FiledAnswer, place_answer
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.streaming import RowSelection, iter_rows, read_rows
from cvbatch.results.where import Where
from cvbatch.schema import IMAGE_URI, ROW_ID
from cvbatch.similarity.comparable_images import load_comparable_images
from cvbatch.similarity.image_vectors import VectorFile, to_unit_vectors
from cvbatch.system.extras import import_extra
from cvbatch.tasks import CLASSIFICATION, EMBEDDING

if TYPE_CHECKING:
    import pandas as pd

Ids = npt.NDArray[np.int64]

_QUESTION: Final = "clusters"
_MOST_CLUSTERS: Final = 256
"""By default."""
_SAMPLE_BYTES: Final = 256 << 20
"""Vectors that k-means learns from, as float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """One cluster."""

    cluster: int
    """Number of the cluster; the largest is 0."""
    images: int
    row_id: int
    """Of the representative: the image nearest to the centre."""
    image_uri: str
    cosine: float
    """Mean cosine of the images with the centre."""
    label: str | None
    """Most frequent class of the images, if the run has classes."""
    label_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersAnswer(FiledAnswer):
    """Clusters of the images; `read` gives the cluster of each image."""

    model: str
    images: int
    excluded: dict[str, int]
    """Images that did not take part, by reason."""
    clusters: list[ClusterFacts]
    """The largest first."""

    def read(self) -> pd.DataFrame:
        """Read the clusters.

        Returns:
            One row for each image: `row_id`, `cluster`, `cosine` with the centre, and `is_representative`.
        """
        return self.file.read_frame()


def find_clusters(
    output: Output,
    clusters: int | None = None,
    *,
    model: str | None = None,
    where: Where = None,
    seed: int = 0,
    to: Output | None = None,
    storage: Storage = None,
) -> ClustersAnswer:
    """Divide the images of a run into clusters by their embeddings.

    k-means learns the centres from vectors of length 1 (scikit-learn's `MiniBatchKMeans`, at most 256 MiB of them);
    then each image goes to the centre with the largest cosine.

    Args:
        output: The output location.
        clusters: How many; None for √(n/2) of n images, at most 256 (Mardia, Multivariate Analysis, 1979).
        model: Column prefix of the embedding model; None if there is only one, or for the one called `embedding`.
        where: Only images for which this holds.
        seed: Of the random choice of the first centres.
        to: Where the answer is written; None for `OUTPUT-clusters.parquet`.
        storage: Options for an object store.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If there are fewer images than clusters, or scikit-learn is missing.
    """
    if clusters is not None and clusters < 1:
        raise UsageError(f"expected a number of clusters from 1 on, got {clusters}")
    import_extra("sklearn.cluster", "cluster", "cvbatch cluster")
    opened = open_output(output, storage)
    spec = opened.find_model(EMBEDDING, model)
    file = place_answer(opened, output, _QUESTION, to, storage)
    file.read()  # refuses to replace a file that is something else
    images = load_comparable_images(opened, spec, where=where)
    vectors, row_ids = images.vectors, images.row_ids[images.has_vector]
    if vectors is None or len(row_ids) < (clusters or 1):
        raise UsageError(
            f"{opened.store.root} has {len(row_ids):,} images with an embedding; expected {clusters or 1:,}"
        )
    count = clusters or min(_MOST_CLUSTERS, max(1, round((len(row_ids) / 2) ** 0.5)))
    assigned, cosines = _assign(vectors, _learn_centres(vectors, count, seed))
    representatives = _nearest_to_centre(assigned, cosines)
    table = pa.table(
        {
            ROW_ID: row_ids,
            "cluster": assigned.astype(np.int32),
            "cosine": cosines,
            "is_representative": np.isin(np.arange(len(row_ids)), representatives),
        }
    ).sort_by(ROW_ID)
    file.write(table, AnswerRecord(_QUESTION, {"model": spec.alias}, (), tuple(ranges_of_rows(row_ids))))
    facts = _describe(opened, where, row_ids, assigned, cosines, representatives)
    excluded = {reason: number for reason, number in images.excluded.items() if number}
    return ClustersAnswer(
        path=str(file.location), model=spec.alias, images=len(row_ids), excluded=excluded, clusters=facts, file=file
    )


def _learn_centres(vectors: VectorFile, count: int, seed: int) -> npt.NDArray[np.float32]:
    """Centres of length 1, (count, dimension)."""
    from sklearn.cluster import MiniBatchKMeans

    most = max(_SAMPLE_BYTES // (4 * vectors.dimension), 4 * count)
    rows = np.random.default_rng(seed).permutation(len(vectors))[:most]
    learned = MiniBatchKMeans(count, batch_size=max(1024, 4 * count), n_init=3, random_state=seed)
    learned.fit(vectors.unit_vectors(np.sort(rows)))
    return to_unit_vectors(learned.cluster_centers_.astype(np.float32))


def _assign(vectors: VectorFile, centres: npt.NDArray[np.float32]) -> tuple[Ids, npt.NDArray[np.float32]]:
    """Cluster of each vector, the largest with number 0, and its cosine with the centre: (n,)."""
    assigned, cosines = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start, block in vectors.iter_blocks():
        products = block @ centres.T
        assigned[start : start + len(block)] = products.argmax(axis=1)
        cosines[start : start + len(block)] = np.minimum(products.max(axis=1), 1)
    sizes = np.bincount(assigned, minlength=len(centres))
    numbers = np.empty(len(centres), np.int64)
    numbers[np.argsort(-sizes, kind="stable")] = np.arange(len(centres))
    return numbers[assigned], cosines


def _nearest_to_centre(assigned: Ids, cosines: npt.NDArray[np.float32]) -> Ids:
    """Position of the vector with the largest cosine of each cluster that is not empty."""
    order = np.lexsort((-cosines, assigned))
    return order[np.flatnonzero(np.diff(assigned[order], prepend=-1))]


def _describe(
    opened: OpenedOutput,
    where: Where,
    row_ids: Ids,
    assigned: Ids,
    cosines: npt.NDArray[np.float32],
    representatives: Ids,
) -> list[ClusterFacts]:
    sizes = np.bincount(assigned)
    means = np.bincount(assigned, cosines) / np.maximum(sizes, 1)
    labels = _frequent_labels(opened, where, row_ids, assigned)
    chosen = row_ids[representatives]
    condition = pads.field(ROW_ID).isin(chosen.tolist())
    rows = read_rows(opened, RowSelection(columns=[ROW_ID, IMAGE_URI], where=condition))
    uris = dict(zip(rows[ROW_ID].to_pylist(), rows[IMAGE_URI].to_pylist(), strict=True))
    return [
        ClusterFacts(
            cluster=number,
            images=int(sizes[number]),
            row_id=row_id,
            image_uri=uris[row_id],
            cosine=float(means[number]),
            label=labels[number][0] if labels else None,
            label_share=labels[number][1] if labels else None,
        )
        for number, row_id in enumerate(chosen.tolist())
    ]


def _frequent_labels(
    opened: OpenedOutput, where: Where, row_ids: Ids, assigned: Ids
) -> list[tuple[str | None, float]] | None:
    """The most frequent class of each cluster with its share; None if the run has no classes."""
    try:
        model = opened.find_model(CLASSIFICATION)
    except OutputError:
        return None
    counts = np.zeros((int(assigned.max()) + 1, len(model.categories)), np.int64)
    order = np.argsort(row_ids)
    column = f"{model.alias}_label_id"
    for table in iter_rows(opened, RowSelection(columns=[ROW_ID, column], where=where)):
        table = table.filter(pads.field(column).is_valid())
        ids, labels = table[ROW_ID].to_numpy(), table[column].to_numpy()
        places = np.minimum(np.searchsorted(row_ids, ids, sorter=order), len(order) - 1)
        took_part = row_ids[order[places]] == ids
        np.add.at(counts, (assigned[order[places[took_part]]], labels[took_part]), 1)
    best = counts.argmax(axis=1)
    shares = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return [(model.categories[label], float(share)) for label, share in zip(best.tolist(), shares, strict=True)]
