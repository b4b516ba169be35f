"""What all tasks have in common, and the columns of each, as the design lists them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.tasks import TASKS, Task
from tests.samples import spec

COLUMNS = {
    "classification": {
        "x_label": "string",
        "x_label_id": "int32",
        "x_score": "float",
        "x_top_labels": "list<item: string>",
        "x_top_label_ids": "list<item: int32>",
        "x_top_scores": "list<item: float>",
    },
    "detection": {
        "x_boxes": "list<item: list<item: float>>",
        "x_labels": "list<item: string>",
        "x_label_ids": "list<item: int32>",
        "x_scores": "list<item: float>",
    },
    "segmentation": {
        "x_labels": "list<item: string>",
        "x_label_ids": "list<item: int32>",
        "x_areas": "list<item: float>",
        "x_masks": "list<item: binary>",
    },
    "embedding": {"x_vector": "list<item: float>"},
    "depth": {"x_map": "binary", "x_min": "float", "x_max": "float"},
}


def types(fields: list[pa.Field]) -> dict[str, str]:
    return {field.name: str(field.type) for field in fields}


@pytest.mark.parametrize("task", TASKS)
def test_columns_of_a_task(task: str) -> None:
    assert types(spec("x", task).column_fields()) == COLUMNS[task]


def test_optional_columns() -> None:
    assert types(spec("x", "detection", masks=True, keypoints=True).column_fields()) == {
        **COLUMNS["detection"],
        "x_masks": "list<item: binary>",
        "x_keypoints": "list<item: list<item: float>>",
    }
    assert types(spec("x", "embedding", dtype="float16").column_fields()) == {"x_vector": "list<item: halffloat>"}


@pytest.mark.parametrize("task", TASKS)
def test_the_facts_of_a_task_are_consistent(task: str) -> None:
    row = TASKS[task]
    assert row.name == task
    assert set(row.options) <= ModelConfig.model_fields.keys()
    assert row.facts <= {"masks", "keypoints", "dimension"}
    assert row.label_column is None or row.label_column in row.column_types(spec())


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_sets_is_known_to_all_tasks(task: str) -> None:
    """A misspelled attribute would have no effect, and the default of `Task` would apply."""
    known = {*vars(Task), *Task.__annotations__}
    assert {name for name in vars(type(TASKS[task])) if not name.startswith("_")} - known == set()


def test_no_option_belongs_to_two_tasks() -> None:
    """But that tiles are cut for all models that locate what they see."""
    options = [option for task in TASKS.values() for option in task.options if option != "tiles"]
    assert len(options) == len(set(options)) == 4


def test_cpus_take_one_image_at_a_time_where_objects_are_located() -> None:
    assert {name for name, task in TASKS.items() if task.goes_one_by_one} == {"detection", "segmentation", "depth"}
    assert {name for name, task in TASKS.items() if task.locates_objects} == {"detection", "segmentation", "depth"}
