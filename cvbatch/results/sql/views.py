"""The views of a run: its images, and one row for each box and for each class in an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import CommittedFiles, OpenedOutput
from cvbatch.results.elements import iter_elements, open_elements
from cvbatch.results.list_columns import ElementSelection
from cvbatch.results.sql.view_dataset import ViewDataset, ViewSource
from cvbatch.results.streaming import BATCH_ROWS, RowSelection, iter_rows
from cvbatch.schema import IMAGE_URI, SOURCE_REMOVED
from cvbatch.tasks import DETECTION, SEGMENTATION, TASKS

IMAGES_VIEW: Final = "images"
ELEMENT_VIEWS: Final = {DETECTION.name: "detections", SEGMENTATION.name: "segments"}
"""Name of the view of each task whose models find several things in an image."""
_ROWS_WITH_MASKS: Final = 1024
"""Images at once where masks are read, which take up to a megabyte each."""


def make_views(opened: OpenedOutput) -> dict[str, ViewDataset]:
    """Make the views of a run, over what is committed now.

    Args:
        opened: The run.

    Returns:
        The views by name. The view of a task has the alias of the model in its name if there are several models.
    """
    committed = opened.committed_files()
    views = {IMAGES_VIEW: _images_source(opened, committed)}
    for model in opened.plan.models:
        if model.task in ELEMENT_VIEWS:
            views[_view_name(opened, model)] = _elements_source(opened, committed, model)
    return {name: ViewDataset(source) for name, source in views.items()}


def _view_name(opened: OpenedOutput, model: ModelSpec) -> str:
    name = ELEMENT_VIEWS[model.task]
    is_alone = sum(other.task == model.task for other in opened.plan.models) == 1
    return name if is_alone else f"{name}_{model.alias}"


def _images_source(opened: OpenedOutput, committed: CommittedFiles) -> ViewSource:
    def read(columns: Sequence[str], where: pads.Expression | None) -> Iterator[pa.Table]:
        selection = RowSelection(columns=columns, where=where)
        rows = _rows_of_batch(opened.schema, columns)
        return iter_rows(opened, selection, batch_rows=rows, committed=committed)

    schema = _known_to_duckdb(_image_schema(opened))
    return ViewSource(schema, _stored_names(opened, committed), read)


def _elements_source(opened: OpenedOutput, committed: CommittedFiles, model: ModelSpec) -> ViewSource:
    task = TASKS[model.task]
    open_columns = partial(open_elements, opened, task, model.alias)
    usual = open_columns(ElementSelection())
    taken = {name.lower() for name in usual.columns}  # DuckDB ignores case
    of_images = [
        field.name
        for field in _image_schema(opened)
        if field.name.lower() not in taken and not pa.types.is_nested(field.type)
    ]
    elements = open_columns(ElementSelection(columns=[*usual.columns, *of_images]))
    empty = _image_schema(opened).empty_table().select(elements.stored_columns())
    schema = _known_to_duckdb(elements.flatten(empty).schema)

    def read(columns: Sequence[str], where: pads.Expression | None) -> Iterator[pa.Table]:
        selection = ElementSelection(columns=columns)
        rows = _rows_of_batch(opened.schema, open_columns(selection).stored_columns())
        return iter_elements(opened, task, model.alias, selection, where, rows, committed)

    return ViewSource(schema, _stored_names(opened, committed).difference(usual.element_columns), read)


def _image_schema(opened: OpenedOutput) -> pa.Schema:
    return opened.schema.append(pa.field(SOURCE_REMOVED, pa.bool_()))


def _stored_names(opened: OpenedOutput, committed: CommittedFiles) -> frozenset[str]:
    """Columns whose values in the files are those that readers see."""
    return frozenset(opened.schema.names) - ({IMAGE_URI} if committed.moves else set())


def _rows_of_batch(schema: pa.Schema, columns: Sequence[str]) -> int:
    types = [schema.field(name).type for name in columns if name in schema.names]
    has_masks = any(pa.types.is_list(kind) and pa.types.is_binary(kind.value_type) for kind in types)
    return _ROWS_WITH_MASKS if has_masks else BATCH_ROWS


def _known_to_duckdb(schema: pa.Schema) -> pa.Schema:
    """The same columns with types that DuckDB takes from Arrow: it has no 16-bit numbers."""
    known: Mapping[pa.DataType, pa.DataType] = {
        pa.float16(): pa.float32(),
        pa.list_(pa.float16()): pa.list_(pa.float32()),
    }
    return pa.schema([(field.name, known.get(field.type, field.type)) for field in schema])
