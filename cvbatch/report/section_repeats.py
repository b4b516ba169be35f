"""Boxes that are at the same place in many images of a folder."""

from __future__ import annotations

from typing import Final

import numpy as np

from cvbatch.repeats.repeats import PLACE, PLACE_IMAGES, QUESTION
from cvbatch.report.page_data import AnswerSection, DataTable, Fact, ImageGroup
from cvbatch.report.section_base import SectionRequest, read_answer
from cvbatch.schema import ROW_ID

_PLACES: Final = 6
_IMAGES: Final = 3
_ROWS: Final = 50
_TOP: Final = "top"
"""What the source itself is called, as in the gallery."""


def show_repeats(request: SectionRequest) -> list[AnswerSection]:
    """Show the answer of `cvbatch repeats`, if there is one."""
    answer = read_answer(request, QUESTION)
    if answer is None:
        return []
    table, source = answer
    places, first = np.unique(table[PLACE].to_numpy(), return_index=True)
    rows = table.select([PLACE, "label", PLACE_IMAGES, "folder"]).take(first[:_ROWS]).to_pylist()
    for row in rows:
        row["folder"] = request.names.folder_of(f"{row['folder']}/image") or _TOP
    groups = []
    for place, row in list(zip(places, rows, strict=False))[:_PLACES]:
        row_ids = table[ROW_ID].to_numpy()[table[PLACE].to_numpy() == place]
        chosen = row_ids[np.unique(np.linspace(0, len(row_ids) - 1, _IMAGES).astype(int))]
        title = f"{row['label']} at one place in {row[PLACE_IMAGES]:,} images of {row['folder']}"
        groups.append(ImageGroup(title, chosen.tolist()))
    columns = ["place", "label", "images", "folder"]
    return [
        AnswerSection(
            name=QUESTION,
            title="Repeats",
            sentence=f"{table.num_rows:,} boxes are at a place where many images of their folder have one; "
            f"look whether it is a thing that does not move. {source}",
            facts=[Fact("boxes", f"{table.num_rows:,}"), Fact("places", f"{len(places):,}")],
            tables=[DataTable("Places", columns, [list(row.values()) for row in rows])],
            groups=groups,
        )
    ]
