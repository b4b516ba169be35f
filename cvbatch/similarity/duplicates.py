"""`cvbatch duplicates`: which images are there more than once, exactly or nearly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.engine.cluster_tasks import ClusterTasks, attach_to_cluster
from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import ranges_of_rows
from cvbatch.results.answer_files import AnswerFile, AnswerRecord, FiledAnswer, place_answer
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.streaming import RowSelection, read_rows
from cvbatch.results.where import Where
from cvbatch.schema import IMAGE_URI, ROW_ID
from cvbatch.similarity.comparable_images import ComparableImages, load_comparable_images
from cvbatch.similarity.content_groups import first_of_same_content
from cvbatch.similarity.earlier_groups import (
    COSINE,
    GROUP,
    MEMBER,
    NEW,
    REPRESENTATIVE,
    EarlierGroups,
    match_earlier_groups,
    nothing_known,
)
from cvbatch.similarity.star_groups import group_around_representatives
from cvbatch.tasks import EMBEDDING

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD: Final = 0.97
_SMALLEST_THRESHOLD: Final = 0.1
_LARGEST_GROUPS: Final = 10
_QUESTION: Final = "duplicates"


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatesAnswer(FiledAnswer):
    """Which images are there more than once; `read` gives them."""

    images: int
    """Images that took part."""
    groups: int
    duplicates: int
    """Images that are alike a representative: what remains without them has no duplicates."""
    exact_duplicates: int
    """Those of them with the same bytes as their representative."""
    duplicate_bytes: int
    """Bytes of the files of all duplicates."""
    model: str | None
    """Column prefix of the embedding; None if only exact duplicates were asked for."""
    threshold: float | None
    new_images: int
    """Images that were compared now; the others were compared for an earlier answer."""
    products: str | None
    """How near duplicates were found."""
    excluded: dict[str, int]
    """Images that did not take part, by reason; those without a vector took part by their content."""
    largest_groups: list[dict[str, Any]]
    """The largest groups: row id and location of the representative, and the number of images."""

    def read(self) -> pd.DataFrame:
        """Read the groups.

        Returns:
            One row for each image of a group: `row_id`, `group` (row id of the representative), `is_representative`,
            `cosine` with the representative, `is_exact` (same bytes as the representative), and `group_images`.
        """
        return self.file.read_frame()


def find_duplicates(
    output: Output,
    *,
    threshold: float = THRESHOLD,
    model: str | None = None,
    exact: bool = False,
    where: Where = None,
    prefer: str | None = None,
    to: Output | None = None,
    restart: bool = False,
    cluster: bool = False,
    storage: Storage = None,
    report: Callable[[int, int], None] = lambda done, images: None,
) -> DuplicatesAnswer:
    """Find images with the same bytes, and images whose embeddings are alike.

    Each member of a group has at least this cosine with the representative of the group, and no two representatives
    have it. Of alike images the one with the most pixels is the representative, then the one with the most bytes, which
    is less compressed or sharper, then the first. All cosines are exact. If there is an earlier answer with the same
    options, only new and changed images are compared, and groups keep their representatives.

    Args:
        output: The output location.
        threshold: Smallest cosine of two alike images, 0.1 to 1.
        model: Column prefix of the embedding model; None if there is only one, or for the one called `embedding`.
        exact: Only images with the same bytes; the run needs no embedding then.
        where: Only images for which this holds.
        prefer: A column of numbers: the image with the largest is the representative.
        to: Where the answer is written; None for `OUTPUT-duplicates.parquet`.
        restart: Compare all images with each other, even if there is an earlier answer.
        cluster: Compare on the Ray cluster that `RAY_ADDRESS` names; for more than a million images.
        storage: Options for an object store.
        report: Receives the number of images that are compared, and of all.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If an option is wrong.
    """
    if not _SMALLEST_THRESHOLD <= threshold <= 1:
        raise UsageError(f"expected a threshold from {_SMALLEST_THRESHOLD} to 1, got {threshold:g}")
    opened = open_output(output, storage)
    spec = None if exact else opened.find_model(EMBEDDING, model)
    file = place_answer(opened, output, _QUESTION, to, storage)
    options = _options_to_share(threshold, spec, where, prefer)
    files_before = opened.committed_files().files
    images = load_comparable_images(opened, spec, where=where, prefer=prefer)
    later_paths = {data_file.path for data_file in opened.committed_files().files}
    files = [data_file for data_file in files_before if data_file.path in later_paths]
    known = _what_is_known(file, options, files, images.row_ids, restart=restart)
    with attach_to_cluster("cvbatch duplicates --cluster") if cluster else contextlib.nullcontext() as tasks:
        grouping = _group_images(images, known, threshold, tasks, report)
    table = _answer_table(images, grouping)
    record = AnswerRecord(
        _QUESTION, options, tuple(sorted(data_file.path for data_file in files)), tuple(ranges_of_rows(images.row_ids))
    )
    file.write(table, record)
    is_duplicate = grouping.groups != images.row_ids
    return DuplicatesAnswer(
        path=str(file.location),
        images=len(images),
        groups=len(np.unique(grouping.groups[is_duplicate])),
        duplicates=int(np.count_nonzero(is_duplicate)),
        exact_duplicates=int(np.count_nonzero(grouping.is_exact & is_duplicate)),
        duplicate_bytes=int(images.image_bytes[is_duplicate].sum()),
        model=None if spec is None else spec.alias,
        threshold=None if spec is None else threshold,
        new_images=int(np.count_nonzero(known.kinds == NEW)),
        products=grouping.products,
        excluded={reason: count for reason, count in images.excluded.items() if count},
        largest_groups=_describe_largest(opened, table),
        file=file,
    )


@dataclass(frozen=True, slots=True)
class _ImageGroups:
    """Group of each image, (n,)."""

    groups: npt.NDArray[np.int64]
    """Row id of the representative."""
    cosines: npt.NDArray[np.float32]
    is_exact: npt.NDArray[np.bool_]
    products: str | None


def _options_to_share(threshold: float, model: ModelSpec | None, where: Where, prefer: str | None) -> dict[str, Any]:
    vectors = None if model is None else {"alias": model.alias, "threshold": threshold}
    return {"vectors": vectors, "where": None if where is None else str(where), "prefer": prefer}


def _what_is_known(
    file: AnswerFile, options: dict[str, Any], files: list[DataFile], row_ids: npt.NDArray[np.int64], *, restart: bool
) -> EarlierGroups:
    earlier = file.read()  # also refuses to replace a file that is something else
    if earlier is None or restart or earlier[1].options != options:
        return nothing_known(len(row_ids))
    return match_earlier_groups(*earlier, files, row_ids)


def _group_images(
    images: ComparableImages,
    known: EarlierGroups,
    threshold: float,
    tasks: ClusterTasks | None,
    report: Callable[[int, int], None],
) -> _ImageGroups:
    """Group by content first, then by vectors those that are the first with their content."""
    sizes = (-images.image_bytes, -images.pixels, -images.preference)
    order = np.lexsort((images.row_ids, *sizes, ~images.has_vector, known.kinds))
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[first_of_same_content(images.digests[order])]
    parents, cosines, products = np.arange(len(order)), np.ones(len(order), np.float32), None
    positions = np.argsort(images.row_ids)
    is_member = known.kinds == MEMBER
    parents[is_member] = positions[np.searchsorted(images.row_ids, known.groups[is_member], sorter=positions)]
    cosines[is_member] = known.cosines[is_member]
    is_new = known.kinds == NEW
    if images.vectors is not None:
        is_first = is_new & (firsts == np.arange(len(order)))
        compared = order[(images.has_vector & (is_first | (known.kinds == REPRESENTATIVE)))[order]]
        known_count = int(np.count_nonzero(known.kinds[compared] == REPRESENTATIVE))
        stars = group_around_representatives(
            images.vectors, images.vector_numbers[compared], threshold, known=known_count, tasks=tasks, report=report
        )
        image_of_vector = np.zeros(len(images.vectors), np.int64)
        image_of_vector[images.vector_numbers[images.has_vector]] = np.flatnonzero(images.has_vector)
        fresh = compared[known_count:]
        parents[fresh] = image_of_vector[stars.representatives[images.vector_numbers[fresh]]]
        cosines[fresh] = stars.cosines[images.vector_numbers[fresh]]
        products = stars.products
    is_copy = is_new & (firsts != np.arange(len(order)))
    parents[is_copy], cosines[is_copy] = parents[firsts[is_copy]], cosines[firsts[is_copy]]
    is_exact = (images.digests == images.digests[parents]).all(axis=1)
    return _ImageGroups(images.row_ids[parents], np.where(is_exact, np.float32(1), cosines), is_exact, products)


def _answer_table(images: ComparableImages, grouping: _ImageGroups) -> pa.Table:
    """One row for each image of a group of two or more; the representative of a group first, then the most alike."""
    _, inverse, counts = np.unique(grouping.groups, return_inverse=True, return_counts=True)
    chosen = np.flatnonzero(counts[inverse] > 1)
    is_representative = grouping.groups == images.row_ids
    order = np.lexsort(
        (images.row_ids[chosen], -grouping.cosines[chosen], ~is_representative[chosen], grouping.groups[chosen])
    )
    chosen = chosen[order]
    return pa.table(
        {
            ROW_ID: images.row_ids[chosen],
            GROUP: grouping.groups[chosen],
            "is_representative": is_representative[chosen],
            COSINE: grouping.cosines[chosen],
            "is_exact": grouping.is_exact[chosen],
            "group_images": counts[inverse][chosen].astype(np.int32),
        }
    )


def _describe_largest(opened: OpenedOutput, table: pa.Table) -> list[dict[str, Any]]:
    representatives = table.filter(table["is_representative"]).sort_by(
        [("group_images", "descending"), (GROUP, "ascending")]
    )
    largest = representatives.slice(0, _LARGEST_GROUPS)
    row_ids = largest[ROW_ID].to_pylist()
    rows = read_rows(opened, RowSelection(columns=[ROW_ID, IMAGE_URI], where=pads.field(ROW_ID).isin(row_ids)))
    uris = dict(zip(rows[ROW_ID].to_pylist(), rows[IMAGE_URI].to_pylist(), strict=True))
    counts = largest["group_images"].to_pylist()
    return [
        {ROW_ID: row_id, IMAGE_URI: uris.get(row_id), "images": count}
        for row_id, count in zip(row_ids, counts, strict=True)
    ]
