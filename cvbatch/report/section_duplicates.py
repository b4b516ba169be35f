"""Images that are there more than once."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.report.page_data import AnswerSection, Fact, ImageGroup
from cvbatch.report.section_base import SectionRequest, read_answer
from cvbatch.schema import ROW_ID
from cvbatch.similarity.comparable_images import ComparableImages, load_comparable_images
from cvbatch.similarity.content_groups import first_of_same_content
from cvbatch.similarity.duplicates import THRESHOLD
from cvbatch.similarity.earlier_groups import GROUP
from cvbatch.similarity.star_groups import group_around_representatives
from cvbatch.tasks import EMBEDDING

NAME: Final = "duplicates"
_MOST_ROWS: Final = 20_000
"""A larger run is not compared here, as that takes longer than the rest of the page; `cvbatch duplicates` does it."""
_GROUPS: Final = 8
_IMAGES: Final = 6


def show_duplicates(request: SectionRequest) -> list[AnswerSection]:
    """Show the answer of `cvbatch duplicates`, or look for duplicates where the run is small."""
    answer = read_answer(request, NAME)
    if answer is not None:
        return _describe(*answer)
    rows = sum(file.row_count for file in request.opened.committed_files().files)
    if not 1 < rows <= _MOST_ROWS:
        return []
    model = next((model for model in request.opened.plan.models if model.task == EMBEDDING.name), None)
    images = load_comparable_images(request.opened, model)
    if not len(images):
        return []
    table = pa.table({ROW_ID: images.row_ids, GROUP: images.row_ids[_find_firsts(images)]})
    alike = f" or with a cosine of at least {THRESHOLD:g}" if images.vectors is not None else ""
    return _describe(table, f"Images with the same bytes{alike}, compared for this page.")


def _find_firsts(images: ComparableImages) -> npt.NDArray[np.int64]:
    """Position of the image that each is like, (n,): by content, then those that differ in it by their vectors."""
    firsts = first_of_same_content(images.digests)
    if images.vectors is None:
        return firsts
    compared = np.flatnonzero((firsts == np.arange(len(images))) & images.has_vector)
    numbers = images.vector_numbers[compared]
    stars = group_around_representatives(images.vectors, numbers, THRESHOLD)
    image_of_vector = np.zeros(len(images.vectors), np.int64)
    image_of_vector[numbers] = compared
    parents = np.arange(len(images))
    parents[compared] = image_of_vector[stars.representatives[numbers]]
    return parents[firsts]


def _describe(table: pa.Table, source: str) -> list[AnswerSection]:
    row_ids, groups = table[ROW_ID].to_numpy(), table[GROUP].to_numpy()
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    duplicates = int((counts - 1).sum())
    if not duplicates:
        return []
    largest = np.lexsort((names, -counts))[:_GROUPS]
    shown = []
    for group in largest:
        if counts[group] < 2:
            break
        members = row_ids[inverse == group]
        members = [int(names[group]), *(int(row) for row in members if row != names[group])]
        shown.append(ImageGroup(f"{counts[group]:,} images that look alike", members[:_IMAGES]))
    several = int(np.count_nonzero(counts > 1))
    return [
        AnswerSection(
            name=NAME,
            title="Duplicates",
            sentence=f"{duplicates:,} images look like another one that is kept. {source}",
            facts=[Fact("duplicates", f"{duplicates:,}"), Fact("groups", f"{several:,}")],
            groups=shown,
        )
    ]
