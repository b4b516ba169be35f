"""`cvbatch repeats`: boxes that are at the same place in many images of a folder, such as a stone before a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.repeats.folder_boxes import BOX_TYPE, Boxes, BoxSelection, FolderBoxes
from cvbatch.repeats.place_groups import NO_PLACE, group_places
from cvbatch.results.answer_files import AnswerFile, AnswerRecord, FiledAnswer, place_answer
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.results.where import Where
from cvbatch.schema import ROW_ID
from cvbatch.storage.location import Location
from cvbatch.system.extras import import_extra
from cvbatch.tasks import DETECTION

if TYPE_CHECKING:
    import pandas as pd

OVERLAP: Final = 0.85
IMAGES: Final = 15
MAX_AREA: Final = 0.2
QUESTION: Final = "repeats"
BOX_INDEX: Final = "box_index"
PLACE: Final = "place"
PLACE_IMAGES: Final = "place_images"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsAnswer(FiledAnswer):
    """Boxes that are at the same place in many images; `read` gives them."""

    sheet: str | None
    """The picture with the places."""
    model: str
    images: int
    """Images that took part."""
    boxes: int
    """Boxes that took part."""
    folders: int
    places: int
    suspects: int
    """Boxes at one of these places."""
    excluded: dict[str, int]
    """Images that did not take part, by reason."""
    largest_places: list[dict[str, Any]]
    """Places with the most images: place, folder, label, images, boxes."""

    def read(self) -> pd.DataFrame:
        """Read the suspects.

        Returns:
            One row for each box: `row_id`, `box_index` (position in the lists of the image), `place`, `place_images`,
            `folder`, `label`, `label_id`, `score`, `x_min`, `y_min`, `x_max`, `y_max` in pixels, and `iou` with the
            first box of the place. The places with the most images first.
        """
        return self.file.read_frame()


def find_repeats(
    output: Output,
    *,
    overlap: float = OVERLAP,
    images: int = IMAGES,
    max_area: float = MAX_AREA,
    levels: int = 0,
    by: str | None = None,
    model: str | None = None,
    where: Where = None,
    classes: Sequence[str | int] | None = None,
    min_score: float | None = None,
    to: Output | None = None,
    sheet: bool = True,
    storage: Storage = None,
) -> RepeatsAnswer:
    """Find boxes of one class at one place in many images of a folder.

    The rule is that of MegaDetector's repeat detection elimination, with the values that its users choose. Places are
    compared as shares of width and height, so images of several sizes go together.

    Args:
        output: The output location.
        overlap: Smallest intersection over union with the box of the place.
        images: Smallest number of images with a box at the place.
        max_area: Boxes with a larger share of the image do not take part: they are often animals before the camera.
        levels: Folders above that of the image that belong to one camera; 1 for `camera/100RECNX/a.jpg`.
        by: Column that says which images belong together, instead of the folder.
        model: Column prefix of the detection model; None if there is only one, or for the one called `detection`.
        where: Only images for which this holds.
        classes: Only boxes of these categories, by name or id.
        min_score: Boxes with a lower score do not take part.
        to: Where the answer is written; None for `OUTPUT-repeats.parquet`. The picture has the same name with `.png`.
        sheet: Whether to make the picture.
        storage: Options for an object store.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If an option is wrong, or SciPy is missing.
    """
    _check_numbers(overlap, images, max_area)
    import_extra("scipy.spatial", "repeats", "cvbatch repeats")
    opened = open_output(output, storage)
    spec = opened.find_model(DETECTION, model)
    file = place_answer(opened, output, QUESTION, to, storage)
    file.read()  # refuses to replace a file that is something else
    paths = tuple(sorted(data_file.path for data_file in opened.committed_files().files))
    selection = BoxSelection(where=where, classes=classes, min_score=min_score, max_area=max_area, levels=levels, by=by)
    boxes = FolderBoxes(opened, spec, selection)
    table = _to_table(_find_suspects(boxes, overlap, images), spec, list(boxes.folders))
    file.write(table, AnswerRecord(QUESTION, {"model": spec.alias, "plan": opened.plan.nonce}, paths))
    places = _describe_places(table)
    return RepeatsAnswer(
        path=str(file.location),
        sheet=_write_sheet(opened, file, table) if sheet and len(table) else None,
        model=spec.alias,
        images=boxes.images,
        boxes=boxes.boxes,
        folders=len(boxes.folders),
        places=len(places),
        suspects=len(table),
        excluded={reason: count for reason, count in boxes.excluded.items() if count},
        largest_places=places[:20],
        file=file,
    )


def _check_numbers(overlap: float, images: int, max_area: float) -> None:
    if not 0.5 <= overlap <= 1:
        raise UsageError(f"expected an overlap from 0.5 to 1, got {overlap:g}")
    if images < 2:
        raise UsageError(f"expected a number of images from 2 on, got {images}")
    if not 0 < max_area <= 1:
        raise UsageError(f"expected a share of the image from 0 to 1 as the largest area, got {max_area:g}")


@dataclass(frozen=True, slots=True)
class _Suspects:
    boxes: Boxes
    places: npt.NDArray[np.int64]
    overlaps: npt.NDArray[np.float32]


def _find_suspects(folder_boxes: FolderBoxes, overlap: float, images: int) -> _Suspects:
    parts = [(np.empty(0, BOX_TYPE), np.empty(0, np.int64), np.empty(0, np.float32))]
    first_place = 0
    for boxes in folder_boxes.iter_partitions():
        boxes = boxes[np.lexsort((boxes["index"], boxes["row"], boxes["label"], boxes["folder"]))]
        is_first = np.ones(len(boxes), np.bool_)
        is_first[1:] = (np.diff(boxes["folder"]) != 0) | (np.diff(boxes["label"]) != 0)
        for group in np.split(boxes, np.flatnonzero(is_first)[1:]):
            shares = group["box"].astype(np.float64) / np.tile(group["size"], 2)
            groups = group_places(shares, group["row"], group["score"], overlap, images)
            chosen = groups.places != NO_PLACE
            parts.append((group[chosen], groups.places[chosen] + first_place, groups.overlaps[chosen]))
            first_place += int(groups.places.max(initial=NO_PLACE)) + 1
    boxes, places, overlaps = map(np.concatenate, zip(*parts, strict=True))
    return _Suspects(boxes, places, overlaps)


def _to_table(suspects: _Suspects, model: ModelSpec, folders: list[str]) -> pa.Table:
    """The answer: places are numbered by their images, the most first."""
    boxes = suspects.boxes
    pairs = np.unique(np.stack([suspects.places, boxes["row"]], axis=1), axis=0)
    image_counts = np.bincount(pairs[:, 0])
    numbers = np.empty(len(image_counts), np.int64)
    numbers[np.argsort(-image_counts, kind="stable")] = np.arange(len(image_counts))
    places = numbers[suspects.places]
    order = np.lexsort((boxes["index"], boxes["row"], places))
    boxes, places, overlaps = boxes[order], places[order], suspects.overlaps[order]
    categories = pa.array(model.categories, pa.string())
    columns = {
        ROW_ID: boxes["row"],
        BOX_INDEX: boxes["index"],
        PLACE: places,
        PLACE_IMAGES: image_counts[suspects.places[order]].astype(np.int32),
        "folder": pa.array(folders, pa.string()).take(pa.array(boxes["folder"])),
        "label": categories.take(pa.array(boxes["label"])),
        "label_id": boxes["label"],
        "score": boxes["score"],
        **{name: boxes["box"][:, side] for side, name in enumerate(("x_min", "y_min", "x_max", "y_max"))},
        "iou": overlaps,
    }
    return pa.table(
        {
            name: values if isinstance(values, pa.Array) else np.ascontiguousarray(values)
            for name, values in columns.items()
        }
    )


def _describe_places(table: pa.Table) -> list[dict[str, Any]]:
    grouped = table.group_by([PLACE, "folder", "label", PLACE_IMAGES]).aggregate([(ROW_ID, "count")]).sort_by(PLACE)
    places: list[dict[str, Any]] = grouped.rename_columns(
        {PLACE_IMAGES: "images", f"{ROW_ID}_count": "boxes"}
    ).to_pylist()
    return places


def _write_sheet(opened: OpenedOutput, file: AnswerFile, table: pa.Table) -> str:
    from cvbatch.repeats.sheet import draw_places

    location = file.location
    stem = location.uri.removesuffix(PurePosixPath(location.uri).suffix)
    picture = AnswerFile(Location(f"{stem}.png", location.options), QUESTION)
    picture.write_bytes(draw_places(opened, table))
    return str(picture.location)
