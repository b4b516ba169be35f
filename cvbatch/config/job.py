"""What a job asks for, checked as a whole before anything starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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
from cvbatch.config.types import Bytes, Moment
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
"""What the name of an own model begins with."""

_Text = Annotated[str, Field(min_length=1)]


class SourceConfig(StorageSection):
    """Where the images come from."""

    uri: _Text | Annotated[tuple[_Text, ...], Field(min_length=1)]
    """A directory, a glob or one file: images, archives, tables with images; or a manifest (`.csv`, `.jsonl`,
    `.parquet`, `.arrow`). A list of several is one run, in this order."""
    extensions: Literal["any"] | tuple[str, ...] | None = None
    """Suffixes that count as images; `any` takes every file; by default the known ones."""
    exif: bool = False
    """Add capture time, camera and position as columns."""
    rename: Mapping[str, str] = Field(default_factory=dict)
    """New names for columns that come along, old name to new name."""
    metadata: AutoOrOff = "auto"
    """Whether the other columns of tables, and `.json`, `.cls` and `.txt` beside images in archives, come along."""
    image_column: str | None = None
    """Column of a table that holds the images, where it is not the only one of its kind, nor called `image`."""
    uri_column: str = "uri"
    """Column of a manifest that names the images."""
    icc: Literal["ignore", "convert"] = "ignore"
    """Whether the colour profile in a file brings its colours to sRGB; `ignore` is what torchvision's users get."""
    damaged: Literal["error", "keep"] = "error"
    """Whether an image that is damaged is an error row, or is taken as far as it goes, with the reason as a column."""
    limit: Count | None = None
    """Take only the first so many images."""
    max_pixels: Count = 178_000_000
    """Images whose header promises more are error rows."""
    min_bytes: Bytes | None = None
    """Files, objects and members with fewer bytes are left out; `10kB` is 10,000, `10KiB` is 10,240."""
    max_bytes: Bytes | None = None
    """Those with more are left out; where that only shows when they are fetched, they are error rows."""
    modified_since: Moment | None = None
    """Files, objects and containers that were changed before are left out; UTC where no time zone is given."""
    exclude: tuple[_Text, ...] = ()
    """Globs of what is left out: `thumbs` is any folder or file of this name, `2019/**/*.png` begins at the source."""
    http_hosts: tuple[str, ...] = ()
    """Hosts whose http(s) images a manifest may name: `example.org`, `*.example.org`, `example.org:8443`."""
    http_private: bool = False
    """Dangerous: these hosts may be in private networks, or this machine; whoever writes the manifest looks there."""

    @property
    def uris(self) -> tuple[str, ...]:
        """The locations, of which there is one as a rule."""
        return (self.uri,) if isinstance(self.uri, str) else self.uri

    @property
    def keeps_damaged(self) -> bool:
        """Whether damaged images are taken as far as they go."""
        return self.damaged == "keep"

    @property
    def fetch_options(self) -> FetchOptions:
        """How its images are got."""
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


_OF_ALL_SOURCES = ("uri", "extensions", "exif", "rename", "max_pixels")
_OF_ALL_MODELS = (
    "model",
    "alias",
    "task",
    "weights",
    "checkpoint",
    "categories",
    "background",
    "sha256",
    "seed",
    "top_k",
    "score_threshold",
    "normalize",
    "dtype",
    "options",
)
"""What stands in every identity. A later option does only where it is not at its default, so that it changes no run
that does without it; no name is ever added here."""
_WAY_TO_SOURCE = ("limit", "http_hosts", "http_private", *OPTION_NAMES)
"""Options that another start of the same run may change."""
_SECTIONS = ("source", "models", "compute", "output")
"""Of the last two nothing but the precision counts: another start may run elsewhere."""


class ModelConfig(StorageSection):
    """One model of the job, what is taken from it, and how to reach its files where they lie in an object store."""

    model: _Text
    """`resnet50`, `resnet50:IMAGENET1K_V2`, `efficientnet_lite0`, `python:package.module:factory`."""
    alias: str | None = Field(default=None, alias="as")
    """Prefix of its columns; by default the name of the task."""
    task: Task | None = None
    """What to take from a model that can do several."""
    weights: str | None = DEFAULT_WEIGHTS
    """Name in the weights enum; null is random initialisation from `seed`."""
    checkpoint: str | None = None
    """Own weights, a path or `s3://bucket/key`: a state dict or safetensors."""
    categories: tuple[str, ...] | Mapping[int, str] | str | None = None
    """Names for own weights: a list, names by label id, or a file with one name a line, here or in a bucket."""
    background: bool = False
    """Whether own weights have an output for the background before those that `categories` names; boxes and masks have
    one where there is one output more."""
    sha256: str | None = None
    """Expected hash of the weights file."""
    seed: Annotated[int, Field(strict=True)] = 0
    """Seed of random weights."""
    top_k: Count = TOP_K
    """Classification: how many of the best classes are kept."""
    score_threshold: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    """Detection: boxes below are dropped; by default the model's own threshold."""
    normalize: bool = False
    """Embedding: scale each vector to length 1."""
    dtype: Literal["float32", "float16"] = "float32"
    """Embedding: type of the vectors."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a `python:` factory."""

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
        for file in (self.checkpoint, self.categories):
            if isinstance(file, str) and is_object_uri(file):
                check_location_options(file, self)
        return self


class OutputConfig(StorageSection):
    """Where the predictions go."""

    uri: _Text
    """A local folder, `s3://bucket/prefix`, `gs://…` or `az://…`."""

    @model_validator(mode="after")
    def _check_location(self) -> OutputConfig:
        check_location_options(self.uri, self)
        return self

    @property
    def location(self) -> Location:
        """Where, and how to get there."""
        return Location.from_uri(self.uri, self.storage_options)


class Job(ConfigSection):
    """A whole job file."""

    source: SourceConfig
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    compute: ComputeConfig = ComputeConfig()
    output: OutputConfig

    def local_paths(self) -> list[str]:
        """Images and predictions that are on a disk: all machines that work on the job have to see them."""
        return _local_only([*self.source.uris, self.output.uri])

    def local_files(self) -> list[str]:
        """What else on a disk the job names: the machine that directs it has to see that."""
        return _local_only([place for model in self.models for place in (model.checkpoint, model.categories)])

    def identity(self) -> dict[str, Any]:
        """What must stay the same for two starts to be the same run.

        Returns:
            Plain JSON data: the source at its absolute location without its limit, the way to it and the hosts that
            may be asked, the models without the way to their files, the precision as asked.
        """
        source = _identity_of_section(self.source, _OF_ALL_SOURCES, _WAY_TO_SOURCE)
        where = [to_local_path(uri) or uri for uri in self.source.uris]
        source["uri"] = where if len(where) > 1 else where[0]
        return {
            "source": source,
            "models": [_identity_of_section(model, _OF_ALL_MODELS, OPTION_NAMES) for model in self.models],
            "precision": self.compute.precision,
            **_identity_of_section(self, (), _SECTIONS),
        }

    def with_defaults(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """An identity, of this version or an earlier one, in which every option is spelled out that this one knows."""
        model = _defaults_of_section(self.models[0], OPTION_NAMES)
        return {
            **_defaults_of_section(self, _SECTIONS),
            **identity,
            "source": {**_defaults_of_section(self.source, _WAY_TO_SOURCE), **identity["source"]},
            "models": [{**model, **each} for each in identity["models"]],
        }


def _identity_of_section(section: ConfigSection, always: Collection[str], never: Collection[str]) -> dict[str, Any]:
    """What an identity says of a section: those options, and all others that are not at their defaults."""
    values, defaults = section.model_dump(mode="json", exclude=set(never)), _defaults_of_section(section, never)
    return {name: value for name, value in values.items() if name in always or value != defaults.get(name)}


def _defaults_of_section(section: ConfigSection, never: Collection[str]) -> dict[str, Any]:
    """The default of each option that has one, but for some, as plain data."""
    return type(section).model_construct().model_dump(mode="json", exclude=set(never))


def _local_only(places: Iterable[object]) -> list[str]:
    return [path for place in places if isinstance(place, str) and (path := to_local_path(place)) is not None]
