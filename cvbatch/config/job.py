"""The job, which is validated as a whole before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from cvbatch.config.compute import (
    AutoOrOff,
    ComputeConfig,
    ConfigSection,
    Count,
    StorageSection,
    check_location_options,
)
from cvbatch.config.identity import (
    CHANGEABLE_SOURCE_OPTIONS,
    OF_ALL_MODELS,
    OF_ALL_SOURCES,
    SECTIONS,
    defaults_of_section,
    identity_of_section,
)
from cvbatch.config.model_files import split_model_file
from cvbatch.config.tiles import TilesConfig
from cvbatch.config.types import Bytes, Moment
from cvbatch.images.tiles import MAX_TILED_PIXELS
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.http_hosts import HttpOptions
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.location import Location, is_object_uri, redact_secrets
from cvbatch.storage.options import OPTION_NAMES
from cvbatch.tasks import TASKS
from cvbatch.tasks.classification import TOP_K

Task: TypeAlias = str
"""The name of a task: a row of `cvbatch.tasks.TASKS`."""
ALIAS = re.compile(r"[a-z][a-z0-9_]*")
DEFAULT_WEIGHTS = "DEFAULT"
PYTHON = "python:"
"""Prefix of the names of own models."""

_Text = Annotated[str, Field(min_length=1)]


class SourceConfig(StorageSection):
    """The source of the images."""

    uri: _Text | Annotated[tuple[_Text, ...], Field(min_length=1)]
    """A folder, a glob or a file: images, archives, tables with images; or a manifest (`.csv`, `.jsonl`,
    `.parquet`, `.arrow`). A list of several locations is one run, in this order."""
    extensions: Literal["any"] | tuple[str, ...] | None = None
    """Suffixes of image files; `any` for all files; by default the known image formats."""
    exif: bool = False
    """Add capture time, camera and position as columns."""
    geo: bool = False
    """Add where GeoTIFFs lie as columns."""
    rename: Mapping[str, str] = Field(default_factory=dict)
    """Old and new names of extra columns."""
    metadata: AutoOrOff = "auto"
    """Whether to copy other columns of tables, and `.json`, `.cls` and `.txt` files beside images in archives."""
    image_column: str | None = None
    """Column of a table with the images; needed if several columns have images and none is called `image`."""
    uri_column: str = "uri"
    """Column of a manifest with the locations of the images."""
    icc: Literal["ignore", "convert"] = "ignore"
    """Whether to convert colours to sRGB by the colour profile of a file; torchvision's usual loading ignores it."""
    damaged: Literal["error", "keep"] = "error"
    """Whether a damaged image is an error row, or its readable part is used and a column has the reason."""
    pages: Literal["first", "all"] = "first"
    """Whether each page of a TIFF, each frame of an animation and each picture of a HEIC is an image of its own."""
    max_pages: Count = 10_000
    """With `pages: all`, a file with more pages is an error row."""
    limit: Count | None = None
    """Use only this many images, the first ones."""
    max_pixels: Count = 178_000_000
    """Images with more pixels, according to their header, are error rows; see `max_tiled_pixels`."""
    min_bytes: Bytes | None = None
    """Skip files, objects and archive members with fewer bytes; `10kB` is 10,000, `10KiB` is 10,240."""
    max_bytes: Bytes | None = None
    """Skip those with more bytes; if the size is known only after the fetch, they are error rows."""
    modified_since: Moment | None = None
    """Skip files, objects and containers that were modified before; UTC if no time zone is given."""
    exclude: tuple[_Text, ...] = ()
    """Globs to skip: `thumbs` matches any folder or file of this name, `2019/**/*.png` starts at the source."""
    http_hosts: tuple[str, ...] = ()
    """Hosts from which a manifest may name http(s) images: `example.org`, `*.example.org`, `example.org:8443`."""
    http_private: bool = False
    """Dangerous: allow hosts in private networks and on this machine; authors of the manifest can read from there."""

    @property
    def uris(self) -> tuple[str, ...]:
        """All locations; usually one."""
        return (self.uri,) if isinstance(self.uri, str) else self.uri

    @property
    def max_tiled_pixels(self) -> int:
        """The same where all models have tiles, so that no image is in memory as a whole: more by default."""
        is_default = self.max_pixels == SourceConfig.model_fields["max_pixels"].default
        return MAX_TILED_PIXELS if is_default else self.max_pixels

    @property
    def keeps_damaged(self) -> bool:
        """Whether the readable part of damaged images is used."""
        return self.damaged == "keep"

    @property
    def fetch_options(self) -> FetchOptions:
        """Options for fetching the images."""
        return FetchOptions(self.storage_options, HttpOptions(self.http_hosts, self.http_private), self.max_bytes)

    @field_validator("uri")
    @classmethod
    def _unwrap_single_uri(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return value[0] if len(value) == 1 and not isinstance(value, str) else value

    @field_validator("http_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return HttpOptions(value).hosts

    @model_validator(mode="after")
    def _check_combinations(self) -> SourceConfig:
        if self.min_bytes and self.max_bytes and self.min_bytes > self.max_bytes:
            raise ValueError(f"expected min_bytes up to max_bytes, got {self.min_bytes} and {self.max_bytes}")
        for uri in self.uris:
            if is_object_uri(uri):
                check_location_options(uri, self)
            elif redact_secrets(uri) != uri and to_local_path(uri) is None:
                raise ValueError("expected a location without credentials")
        return self


class ModelConfig(StorageSection):
    """One model of the job, its task, and options for its files in an object store."""

    model: _Text
    """`resnet50`, `resnet50:IMAGENET1K_V2`, `efficientnet_lite0`, `python:package.module:factory`, `onnx:FILE`,
    `program:FILE`, `hf:FOLDER`, `hf:NAME`, `timm:FOLDER` or `timm:NAME`; by default the embedded model for the task."""
    alias: str | None = Field(default=None, alias="as")
    """Prefix of its columns; by default the name of the task."""
    task: Task | None = None
    """The task, for models that can do several."""
    weights: str | None = DEFAULT_WEIGHTS
    """Name in the weights enum; null for random initialisation from `seed`."""
    checkpoint: str | None = None
    """Own weights, a path or `s3://bucket/key`: a state dict or safetensors."""
    categories: tuple[str, ...] | Mapping[int, str] | str | None = None
    """Category names of own weights: a list, names by label id, or a file with one name per line, local or in a
    bucket."""
    background: bool = False
    """Whether the first output of own weights is the background, before those in `categories`; models for boxes and
    masks have a background if they have one output more than `categories`."""
    sha256: str | None = None
    """Expected hash of the weights file."""
    seed: Annotated[int, Field(strict=True)] = 0
    """Seed of random weights."""
    top_k: Count = TOP_K
    """Classification: number of best classes to store."""
    score_threshold: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    """Detection: boxes with lower scores are dropped; by default the model's own threshold."""
    normalize: bool = False
    """Embedding: scale each vector to length 1."""
    dtype: Literal["float32", "float16"] = "float32"
    """Embedding: type of the vectors."""
    prompts: tuple[str, ...] | str | None = None
    """`hf:` models with texts: what to look for, in words, which become the categories; a list, or a file with one a
    line."""
    template: str | None = None
    """Sentence with `{}` for each of `prompts`, such as `a photo of a {}`; by default they are taken as they are."""
    tiles: TilesConfig | None = None
    """Detection and segmentation: cut large pictures into overlapping tiles, in full resolution."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a `python:` factory, or the keys that describe an `onnx:` file."""

    @model_validator(mode="before")
    @classmethod
    def _split_model_file(cls, data: Any) -> Any:
        return split_model_file(data) if isinstance(data, Mapping) else data

    @model_validator(mode="before")
    @classmethod
    def _take_default_model(cls, data: Any) -> Any:
        task = data.get("task") if isinstance(data, Mapping) and data.get("model") is None else None
        default = TASKS[task].default_model if isinstance(task, str) and task in TASKS else None
        return {**data, "model": default} if default is not None else data

    @field_validator("alias")
    @classmethod
    def _check_alias(cls, value: str | None) -> str | None:
        if value is not None and not ALIAS.fullmatch(value):
            raise ValueError(f"expected lower-case letters, digits and _ starting with a letter, got {value!r}")
        return value

    @field_validator("task")
    @classmethod
    def _task_is_known(cls, value: Task | None) -> Task | None:
        if value is not None and value not in TASKS:
            *names, last = map(repr, TASKS)
            raise ValueError(f"expected {', '.join(names)} or {last}, got {value!r}")
        return value

    @model_validator(mode="after")
    def _check_weights_origin(self) -> ModelConfig:
        if self.checkpoint and self.weights not in (None, DEFAULT_WEIGHTS):
            raise ValueError("give checkpoint: or weights:, not both")
        for file in (self.checkpoint, self.categories, self.prompts):
            if isinstance(file, str) and is_object_uri(file):
                check_location_options(file, self)
        return self


class OutputConfig(StorageSection):
    """The output location of the predictions."""

    uri: _Text
    """A local folder, `s3://bucket/prefix`, `gs://…` or `az://…`."""

    @model_validator(mode="after")
    def _check_location(self) -> OutputConfig:
        check_location_options(self.uri, self)
        return self

    @property
    def location(self) -> Location:
        """The location with its storage options."""
        return Location.from_uri(self.uri, self.storage_options)


class Job(ConfigSection):
    """A whole job file."""

    source: SourceConfig
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    compute: ComputeConfig = ComputeConfig()
    output: OutputConfig

    def local_paths(self) -> list[str]:
        """Local paths of images and predictions: all machines that run the job need access to them."""
        return _local_only([*self.source.uris, self.output.uri])

    def local_files(self) -> list[str]:
        """Other local paths in the job: the driver's machine needs access to them."""
        files = [(model.checkpoint, model.categories, model.prompts) for model in self.models]
        return _local_only([path for paths in files for path in paths])

    def identity(self) -> dict[str, Any]:
        """The options that must be equal for two attempts to be the same run.

        Returns:
            Plain JSON data: the source with absolute locations and without limit, hosts and storage options, the
            models without storage options, the requested precision.
        """
        source = identity_of_section(self.source, OF_ALL_SOURCES, CHANGEABLE_SOURCE_OPTIONS)
        locations = [to_local_path(uri) or uri for uri in self.source.uris]
        source["uri"] = locations if len(locations) > 1 else locations[0]
        return {
            "source": source,
            "models": [identity_of_section(model, OF_ALL_MODELS, OPTION_NAMES) for model in self.models],
            "precision": self.compute.precision,
            **identity_of_section(self, (), SECTIONS),
        }

    def with_defaults(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """An identity of this or an earlier version, with the defaults of all missing options filled in."""
        model_defaults = defaults_of_section(self.models[0], OPTION_NAMES)
        return {
            **defaults_of_section(self, SECTIONS),
            **identity,
            "source": {**defaults_of_section(self.source, CHANGEABLE_SOURCE_OPTIONS), **identity["source"]},
            "models": [{**model_defaults, **model} for model in identity["models"]],
        }


def _local_only(locations: Iterable[object]) -> list[str]:
    return [path for uri in locations if isinstance(uri, str) and (path := to_local_path(uri)) is not None]
