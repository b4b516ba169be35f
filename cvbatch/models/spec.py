"""What the driver knows of a model without importing torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pyarrow as pa

from cvbatch.images.preprocess import View
from cvbatch.schema import predictions_schema
from cvbatch.storage.options import StorageOptions
from cvbatch.system.formats import RecordFormat
from cvbatch.system.versions import package_versions
from cvbatch.tasks import TASKS
from cvbatch.tasks.classification import TOP_K


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model of a job, resolved: travels to the workers, and its hash stands in the plan."""

    alias: str
    task: str
    """A row of `cvbatch.tasks.TASKS`."""
    kind: str
    """A row of `cvbatch.models.backends.BACKENDS`."""
    name: str
    """Builder name, `efficientnet_lite0`, or `package.module:factory`."""
    view: View
    """How images must look when they reach the network."""
    weights: str | None = None
    """Name in the weights enum; None for random or own weights."""
    weights_path: str | None = None
    """File with the state dict, or the URI of an object; None for random weights and `python:` models."""
    weights_storage: StorageOptions | None = None
    """The way to that object."""
    weights_sha256: str | None = None
    seed: int = 0
    categories: tuple[str | None, ...] = ()
    """Name of each label id; None where an id is never emitted (background, `N/A`)."""
    label_map: str = ""
    """Name of the categories with their version, such as `imagenet-1k`."""
    licence: str = ""
    gflops: float | None = None
    """Work of one forward pass at the view's usual size; sizes the units."""
    masks: bool = False
    keypoints: bool = False
    dimension: int | None = None
    """Length of an embedding vector."""
    top_k: int = TOP_K
    score_threshold: float | None = None
    normalize: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    """Of the job file, on this machine: what a `python:` model is imported from, and where files in `options` are."""
    files: dict[str, str] = field(default_factory=dict)
    """The sha256 of each source of a `python:` model and of each file in `options`, by its path from there."""

    def column_fields(self) -> list[pa.Field]:
        """The columns of this model in the predictions."""
        return TASKS[self.task].column_fields(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the plan."""
        data = MODEL.to_json(self)
        for name in ("weights_storage", "folder", "files"):  # so that what was kept by earlier versions stays the same
            if not data[name]:
                del data[name]
        return data

    def with_files_of(self, other: ModelSpec) -> ModelSpec:
        """This model with the way to its files that another start has found, which may be on another machine."""
        return replace(
            self,
            weights_path=other.weights_path,
            weights_storage=other.weights_storage,
            folder=other.folder,
            options=other.options,
            files=other.files,
        )

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_json`."""
        return MODEL.from_json(data, "the plan")


MODEL: Final = RecordFormat("model", ModelSpec)
_ABOUT: Final = RecordFormat("description", dict[str, Any])
"""What the schema of a data file says of it."""


def rows_schema(
    models: Sequence[ModelSpec], *, exif: bool = False, warnings: bool = False, extra_columns: Iterable[pa.Field] = ()
) -> pa.Schema:
    """The schema of the rows that some models answer with; the other arguments are those of `predictions_schema`.

    Raises:
        SourceError: If a carried column has the name of a model's column.
    """
    fields = [column for model in models for column in model.column_fields()]
    return predictions_schema(fields, exif=exif, warnings=warnings, extra_columns=extra_columns)


def describe_schema(schema: pa.Schema, models: Sequence[ModelSpec], precision: str) -> pa.Schema:
    """A schema with what a reader of one file alone would miss: its models, their precision, and the versions."""
    about = {
        "models": [{**model.to_json(), "categories": len(model.categories)} for model in models],
        "precision": precision,
        "versions": package_versions(),
    }
    return schema.with_metadata({"cvbatch": _ABOUT.encode_record(about)})
