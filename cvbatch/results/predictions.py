"""Reading a run: pandas frames and Arrow datasets, also while it is still going.

Readers go by the highest-numbered manifest, or by the commit log of a run that is not finished. A file
that vanishes while one reads was replaced: the list is read again. If it did not change, the run is
corrupt, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cvbatch.errors import CorruptionError, OutputError
from cvbatch.models.spec import rows_schema
from cvbatch.output.arrow_dataset import open_dataset_files
from cvbatch.output.commit_log import CommitLog, newest_record_name, record_name
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import latest_manifest
from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.output.store import Store
from cvbatch.planning.moved import apply_moves_to_rows
from cvbatch.planning.parts import Part
from cvbatch.planning.plan import Plan, open_run
from cvbatch.schema import HEIGHT, IMAGE_URI, ROW_ID, SOURCE_REMOVED, WIDTH
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import DETECTION, SEGMENTATION, Task
from cvbatch.tasks.masks import decode_mask as decode_mask

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_ATTEMPTS = 5

Output: TypeAlias = str | Location
Storage: TypeAlias = Mapping[str, Any] | None


def read(
    output: Output,
    *,
    columns: Sequence[str] | None = None,
    filter: pads.Expression | None = None,
    storage: Storage = None,
) -> pd.DataFrame:
    """Read the predictions of a run.

    Args:
        output: The output location.
        columns: Only these columns; `source_removed` says whether the image is gone from the source.
        filter: Only rows for which this expression holds, such as `pyarrow.dataset.field("status") == "ok"`;
            columns and filter are pushed down to Parquet.
        storage: How to reach an object store: `endpoint_url`, `region`, `path_style`, `anonymous`, `profile`.

    Returns:
        One row per image that is committed, in the order of the plan; `image_uri` is where the image lies now, if the
        run was told that its source has moved. Integer columns with missing values, such as
        `width` where an image could not be decoded, have pandas' nullable types.

    Raises:
        OutputError: If there is no run.
        CorruptionError: If a committed file is missing.
    """
    return _to_data_frame(_load_table(_output_location(output, storage), columns, filter))


def _load_table(output: Location, columns: Sequence[str] | None, filter: pads.Expression | None = None) -> pa.Table:
    """What `read` gives, as Arrow."""
    store, plan = open_run(output)
    wanted = None if columns is None else [name for name in (*columns, ROW_ID) if name != SOURCE_REMOVED]

    def load_snapshot_rows(now: CommittedFiles) -> pa.Table:
        stored = None if wanted is None else list(dict.fromkeys(wanted))
        table = _rows_with_current_uris(
            store, _open_predictions(store, plan, now.files), stored, filter, now.moves
        ).sort_by(ROW_ID)
        return table.append_column(
            SOURCE_REMOVED, pa.array(RowRanges(now.removed).contains_rows(table[ROW_ID].to_numpy()))
        )

    table = _retry_while_changing(store, plan, load_snapshot_rows)
    return table if columns is None else table.select(list(columns))


def _rows_with_current_uris(
    store: Store,
    dataset: pads.Dataset,
    columns: list[str] | None,
    filter: pads.Expression | None,
    moves: Sequence[Part],
) -> pa.Table:
    """Rows as `to_table` gives them, but where a source has moved with the images' new places."""
    if moves and filter is not None and IMAGE_URI in str(filter):
        table = apply_moves_to_rows(store, dataset.to_table(), moves).filter(filter)
        return table if columns is None else table.select(columns)
    table = dataset.to_table(columns=columns, filter=filter)
    return apply_moves_to_rows(store, table, moves) if IMAGE_URI in table.column_names else table


def _to_data_frame(table: pa.Table) -> pd.DataFrame:
    """As pandas would make it, but integers stay integers where some are missing."""
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and pa.types.is_integer(column.type):
            nullable = pd.api.types.pandas_dtype(str(column.type).replace("int", "Int").replace("uI", "UI"))
            frame[name] = column.to_pandas(types_mapper={column.type: nullable}.get)
    return frame


def open_dataset(output: Output, *, storage: Storage = None) -> pads.Dataset:
    """Open the predictions as an Arrow dataset, for data that does not fit into memory.

    Args:
        output: The output location.
        storage: As for `read`.

    Returns:
        The dataset of the files that are committed now, with each `image_uri` as it was when they were written.

    Raises:
        OutputError: If there is no run.
    """
    store, plan = open_run(_output_location(output, storage))
    return _retry_while_changing(store, plan, lambda now: _open_predictions(store, plan, now.files))


def read_detections(output: Output, alias: str = DETECTION.name, *, storage: Storage = None) -> pd.DataFrame:
    """Read boxes as a tidy frame: one row per box.

    Args:
        output: The output location.
        alias: The detection model's prefix.
        storage: As for `read`.

    Returns:
        `row_id`, `image_uri`, `label`, `label_id`, `score`, `x_min`, `y_min`, `x_max`, `y_max` in pixels of
        the oriented original, and `mask` (COCO RLE counts) or `keypoints` (x, y, score flattened) where the
        model gives them.
    """
    place = _output_location(output, storage)
    table = _model_columns(place, alias, DETECTION)
    frame = _explode_lists(
        table, alias, {"labels": "label", "label_ids": "label_id", "scores": "score", "boxes": "_box"}
    )
    corners = ("x_min", "y_min", "x_max", "y_max")
    for at, name in enumerate(corners):
        frame[name] = frame["_box"].str[at].astype("float32")
    optional = {f"{alias}_masks": "mask", f"{alias}_keypoints": "keypoints"}
    return frame.drop(columns="_box").rename(columns=optional)


def read_segments(output: Output, alias: str = SEGMENTATION.name, *, storage: Storage = None) -> pd.DataFrame:
    """Read segments as a tidy frame: one row per class that is present in an image.

    Args:
        output: The output location.
        alias: The segmentation model's prefix.
        storage: As for `read`.

    Returns:
        `row_id`, `image_uri`, `width`, `height`, `label`, `label_id`, `area` (share of the pixels) and
        `mask` (COCO RLE counts at the size of the oriented original; see `decode_mask`).
    """
    place = _output_location(output, storage)
    table = _model_columns(place, alias, SEGMENTATION, (WIDTH, HEIGHT))
    return _explode_lists(table, alias, {"labels": "label", "label_ids": "label_id", "areas": "area", "masks": "mask"})


def label_map(output: Output, alias: str, *, storage: Storage = None) -> dict[int, str]:
    """Return the categories of a model as id → name.

    Args:
        output: The output location.
        alias: The model's prefix.
        storage: As for `read`.

    Raises:
        OutputError: If the run has no such model.
    """
    _, plan = open_run(_output_location(output, storage))
    for model in plan.models:
        if model.alias == alias:
            return {index: name for index, name in enumerate(model.categories) if name is not None}
    raise OutputError(f"{output} has no model {alias!r}; it has {', '.join(model.alias for model in plan.models)}")


@dataclass(frozen=True, slots=True)
class CommittedFiles:
    """What makes up the predictions at some moment."""

    files: list[DataFile]
    """In the order of their rows."""
    removed: list[RowRange]
    """Rows whose image is gone from the source."""
    moves: tuple[Part, ...] = ()
    """Plan parts that tell where the source has moved, oldest first."""


def committed_files(store: Store, plan: Plan) -> CommittedFiles:
    """What makes up the predictions now."""
    manifest = latest_manifest(store)
    if manifest is not None and newest_record_name(store) == record_name(manifest.final):
        return CommittedFiles(manifest.files, manifest.removed, manifest.moves)
    state = CommitLog(store, plan.rows).state
    return CommittedFiles(
        sorted(state.files.values(), key=lambda file: file.ranges), list(state.removed), tuple(state.move_parts)
    )


def _output_location(output: Output, storage: Storage) -> Location:
    return Location.from_path_or_uri(output, StorageOptions.from_mapping(storage or {}))


def _open_predictions(store: Store, plan: Plan, files: Sequence[DataFile]) -> pads.Dataset:
    source = plan.job["source"]
    kept = source.get("damaged") == "keep"
    schema = rows_schema(plan.models, exif=source["exif"], warnings=kept, extra_columns=plan.extra_columns(store))
    return open_dataset_files(store, files, schema)


def _retry_while_changing(store: Store, plan: Plan, load: Callable[[CommittedFiles], T]) -> T:
    """Load what is true now; if a file is gone by then, what is true by then."""
    before = committed_files(store, plan)
    for _ in range(_ATTEMPTS):
        try:
            return load(before)
        except FileNotFoundError as error:
            now = committed_files(store, plan)
            if now == before:
                raise CorruptionError(f"{store.root}: a committed file is missing: {error}") from None
            before = now
    raise CorruptionError(f"{store.root}: its files change faster than they can be read; try again")


def _model_columns(output: Location, alias: str, task: Task, facts: Sequence[str] = ()) -> pd.DataFrame:
    """The rows with answers of a model, and all columns of it."""
    _, plan = open_run(output)
    model = next((model for model in plan.models if model.alias == alias), None)
    if model is None or model.task != task.name:
        known = [model.alias for model in plan.models if model.task == task.name]
        raise OutputError(f"{output} has no {task.name} model {alias!r}; it has {', '.join(known) or 'none'}")
    columns = [column.name for column in model.column_fields()]
    table = _load_table(output, [ROW_ID, IMAGE_URI, *facts, *columns])
    # rows of failed images are left out before pandas sees them, and with them all integers that are missing
    return _to_data_frame(table.filter(pc.greater(pc.list_value_length(table[columns[0]]), 0)))


def _explode_lists(table: pd.DataFrame, alias: str, renames: dict[str, str]) -> pd.DataFrame:
    lists = [name for name in table.columns if name.startswith(f"{alias}_")]
    frame = table.explode(lists, ignore_index=True).rename(columns={f"{alias}_{old}": renames[old] for old in renames})
    return frame.astype({new: "int32" for new in renames.values() if new == "label_id"}).infer_objects()
