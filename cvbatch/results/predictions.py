"""Reading predictions as pandas frames and Arrow datasets, also while the run is in progress.

Readers use the latest manifest, or the commit log if the run is not finished. If a file disappears during reading, it
was probably replaced: the list of files is read again. If the list has not changed, the output is corrupt and
`CorruptionError` is raised.
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
        columns: Only these columns; `source_removed` says whether the image was removed from the source.
        filter: Only rows that match this expression, such as `pyarrow.dataset.field("status") == "ok"`;
            columns and filter are pushed down to Parquet.
        storage: Options for an object store: `endpoint_url`, `region`, `path_style`, `anonymous`, `profile`.

    Returns:
        One row per committed image, in the order of the plan. After a move of the source, `image_uri` is the new
        location. Integer columns with missing values, such as `width` of an image that could not be decoded, have
        pandas' nullable types.

    Raises:
        OutputError: If there is no run.
        CorruptionError: If a committed file is missing.
    """
    return _to_data_frame(_load_table(_output_location(output, storage), columns, filter))


def _load_table(output: Location, columns: Sequence[str] | None, filter: pads.Expression | None = None) -> pa.Table:
    """The rows that `read` returns, as an Arrow table."""
    store, plan = open_run(output)
    stored_columns = None
    if columns is not None:
        stored_columns = list(dict.fromkeys(name for name in (*columns, ROW_ID) if name != SOURCE_REMOVED))

    def load_rows(committed: CommittedFiles) -> pa.Table:
        dataset = _open_predictions(store, plan, committed.files)
        table = _rows_with_current_uris(store, dataset, stored_columns, filter, committed.moves).sort_by(ROW_ID)
        is_removed = RowRanges(committed.removed).contains_rows(table[ROW_ID].to_numpy())
        return table.append_column(SOURCE_REMOVED, pa.array(is_removed))

    table = _retry_while_changing(store, plan, load_rows)
    return table if columns is None else table.select(list(columns))


def _rows_with_current_uris(
    store: Store,
    dataset: pads.Dataset,
    columns: list[str] | None,
    filter: pads.Expression | None,
    moves: Sequence[Part],
) -> pa.Table:
    """Rows of a dataset; after a move of the source, with the new `image_uri`, to which the filter applies, too."""
    if moves and filter is not None and IMAGE_URI in str(filter):
        table = apply_moves_to_rows(store, dataset.to_table(), moves).filter(filter)
        return table if columns is None else table.select(columns)
    table = dataset.to_table(columns=columns, filter=filter)
    return apply_moves_to_rows(store, table, moves) if IMAGE_URI in table.column_names else table


def _to_data_frame(table: pa.Table) -> pd.DataFrame:
    """Convert to pandas; integer columns with missing values get nullable types instead of becoming floats."""
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and pa.types.is_integer(column.type):
            nullable = pd.api.types.pandas_dtype(str(column.type).replace("int", "Int").replace("uI", "UI"))
            frame[name] = column.to_pandas(types_mapper={column.type: nullable}.get)
    return frame


def open_dataset(output: Output, *, storage: Storage = None) -> pads.Dataset:
    """Open the predictions as an Arrow dataset, for data larger than memory.

    Args:
        output: The output location.
        storage: As for `read`.

    Returns:
        Dataset of the files that are committed now; each `image_uri` is as it was when the file was written.

    Raises:
        OutputError: If there is no run.
    """
    store, plan = open_run(_output_location(output, storage))
    return _retry_while_changing(store, plan, lambda committed: _open_predictions(store, plan, committed.files))


def read_detections(output: Output, alias: str = DETECTION.name, *, storage: Storage = None) -> pd.DataFrame:
    """Read boxes as a tidy frame: one row per box.

    Args:
        output: The output location.
        alias: Column prefix of the detection model.
        storage: As for `read`.

    Returns:
        `row_id`, `image_uri`, `label`, `label_id`, `score`, `x_min`, `y_min`, `x_max`, `y_max` in pixels of
        the oriented original, and `mask` (COCO RLE counts) or `keypoints` (x, y, score flattened) if the
        model has them.
    """
    table = _model_columns(_output_location(output, storage), alias, DETECTION)
    frame = _explode_lists(
        table, alias, {"labels": "label", "label_ids": "label_id", "scores": "score", "boxes": "_box"}
    )
    for index, name in enumerate(("x_min", "y_min", "x_max", "y_max")):
        frame[name] = frame["_box"].str[index].astype("float32")
    optional_columns = {f"{alias}_masks": "mask", f"{alias}_keypoints": "keypoints"}
    return frame.drop(columns="_box").rename(columns=optional_columns)


def read_segments(output: Output, alias: str = SEGMENTATION.name, *, storage: Storage = None) -> pd.DataFrame:
    """Read segments as a tidy frame: one row per class in an image.

    Args:
        output: The output location.
        alias: Column prefix of the segmentation model.
        storage: As for `read`.

    Returns:
        `row_id`, `image_uri`, `width`, `height`, `label`, `label_id`, `area` (share of the pixels) and
        `mask` (COCO RLE counts at the size of the oriented original; see `decode_mask`).
    """
    table = _model_columns(_output_location(output, storage), alias, SEGMENTATION, (WIDTH, HEIGHT))
    return _explode_lists(table, alias, {"labels": "label", "label_ids": "label_id", "areas": "area", "masks": "mask"})


def label_map(output: Output, alias: str, *, storage: Storage = None) -> dict[int, str]:
    """Return the categories of a model as id → name.

    Args:
        output: The output location.
        alias: Column prefix of the model.
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
    """The committed files of a run at one moment."""

    files: list[DataFile]
    """Sorted by row id."""
    removed: list[RowRange]
    """Rows of images that were removed from the source."""
    moves: tuple[Part, ...] = ()
    """Plan parts of the moves of the source, oldest first."""


def committed_files(store: Store, plan: Plan) -> CommittedFiles:
    """The files that are committed now."""
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
    has_warnings = source.get("damaged") == "keep"
    extra_columns = plan.extra_columns(store)
    schema = rows_schema(plan.models, exif=source["exif"], warnings=has_warnings, extra_columns=extra_columns)
    return open_dataset_files(store, files, schema)


def _retry_while_changing(store: Store, plan: Plan, load: Callable[[CommittedFiles], T]) -> T:
    """Load the committed files; if one was replaced meanwhile, load the new list of files."""
    committed = committed_files(store, plan)
    for _ in range(_ATTEMPTS):
        try:
            return load(committed)
        except FileNotFoundError as error:
            newer = committed_files(store, plan)
            if newer == committed:
                raise CorruptionError(f"{store.root}: a committed file is missing: {error}") from None
            committed = newer
    raise CorruptionError(f"{store.root}: its files change faster than they can be read; try again")


def _model_columns(output: Location, alias: str, task: Task, image_columns: Sequence[str] = ()) -> pd.DataFrame:
    """Rows with at least one result of a model, with all columns of the model."""
    _, plan = open_run(output)
    model = next((model for model in plan.models if model.alias == alias), None)
    if model is None or model.task != task.name:
        aliases = [model.alias for model in plan.models if model.task == task.name]
        raise OutputError(f"{output} has no {task.name} model {alias!r}; it has {', '.join(aliases) or 'none'}")
    columns = [column.name for column in model.column_fields()]
    table = _load_table(output, [ROW_ID, IMAGE_URI, *image_columns, *columns])
    # the filter removes rows of failed images, and so all missing integers, before the conversion to pandas
    return _to_data_frame(table.filter(pc.greater(pc.list_value_length(table[columns[0]]), 0)))


def _explode_lists(table: pd.DataFrame, alias: str, renames: dict[str, str]) -> pd.DataFrame:
    lists = [name for name in table.columns if name.startswith(f"{alias}_")]
    frame = table.explode(lists, ignore_index=True).rename(columns={f"{alias}_{old}": renames[old] for old in renames})
    return frame.astype({new: "int32" for new in renames.values() if new == "label_id"}).infer_objects()
