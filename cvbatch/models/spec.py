"""Facts about a model that the driver knows without importing torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.images.preprocess import View
from cvbatch.schema import predictions_schema
from cvbatch.storage.options import StorageOptions
from cvbatch.system.formats import RecordFormat
from cvbatch.system.versions import package_versions
from cvbatch.tasks import TASKS
from cvbatch.tasks.classification import TOP_K


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One resolved model of a job; it is sent to the workers, and the plan stores it."""

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
    """How to reach the object of `weights_path`."""
    weights_sha256: str | None = None
    seed: int = 0
    categories: tuple[str | None, ...] = ()
    """Name of each label id; None where an id is never emitted (background, `N/A`)."""
    label_map: str = ""
    """Name of the categories with their version, such as `imagenet-1k`."""
    licence: str = ""
    gflops: float | None = None
    """Work of one forward pass at the view's usual size; decides the size of units."""
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
    """The job file's folder on this machine; `python:` models and relative paths in `options` are found in it."""
    files: dict[str, str] = field(default_factory=dict)
    """The sha256 of each source of a `python:` model and of each file in `options`, by its path from `folder`."""

    def column_fields(self) -> list[pa.Field]:
        """The columns of this model in the predictions."""
        return TASKS[self.task].column_fields(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the plan."""
        data = MODEL.to_json(self)
        for name in ("weights_storage", "folder", "files"):  # records of earlier versions lack them
            if not data[name]:
                del data[name]
        return data

    def to_short_json(self) -> dict[str, Any]:
        """Plain data for records that need no names of classes: only their number."""
        return {**self.to_json(), "categories": len(self.categories)}

    def with_files_of(self, other: ModelSpec) -> ModelSpec:
        """This model with the file locations of another attempt, which may have run on another machine."""
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


MODEL: Final = RecordFormat("model", ModelSpec, minor=2)
_ABOUT: Final = RecordFormat("description", dict[str, Any])
"""Description that the schema of a data file holds."""


def rows_schema(
    models: Sequence[ModelSpec],
    *,
    exif: bool = False,
    warnings: bool = False,
    geo: bool = False,
    extra_columns: Iterable[pa.Field] = (),
) -> pa.Schema:
    """Build the schema of the rows of these models; see `predictions_schema` for the other arguments.

    Raises:
        SourceError: An extra column has the name of a model's column.
    """
    fields = [column for model in models for column in model.column_fields()]
    return predictions_schema(fields, exif=exif, warnings=warnings, geo=geo, extra_columns=extra_columns)


def rows_schema_of_source(
    models: Sequence[ModelSpec], source: SourceConfig, extra_columns: Iterable[pa.Field]
) -> pa.Schema:
    """Build the schema of the rows of these models with the columns that a source asks for; see `rows_schema`."""
    return rows_schema(
        models, exif=source.exif, warnings=source.keeps_damaged, geo=source.geo, extra_columns=extra_columns
    )


def describe_schema(schema: pa.Schema, models: Sequence[ModelSpec], precision: str) -> pa.Schema:
    """Add to a schema what a reader of a single file needs: the models, their precision, and the versions."""
    description = {
        "models": [model.to_short_json() for model in models],
        "precision": precision,
        "versions": package_versions(),
    }
    return schema.with_metadata({"cvbatch": _ABOUT.encode_record(description)})
