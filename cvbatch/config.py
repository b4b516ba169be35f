"""The job file: what is asked for, checked as a whole before anything starts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cvbatch.errors import JobError

Task = Literal["classification", "detection", "segmentation", "embedding"]
TASKS: tuple[Task, ...] = ("classification", "detection", "segmentation", "embedding")
ALIAS = re.compile(r"[a-z][a-z0-9_]*")
DEFAULT_WEIGHTS = "DEFAULT"


class _Section(BaseModel):
    """A part of the job file: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class SourceConfig(_Section):
    """Where the images come from."""

    uri: str
    """A directory, a glob, one image, or a manifest (`.csv`, `.jsonl`, `.parquet`)."""
    extensions: Literal["any"] | tuple[str, ...] | None = None
    """Suffixes that count as images; `any` takes every file; by default the known ones."""
    exif: bool = False
    """Add capture time, camera and position as columns."""
    rename: Mapping[str, str] = Field(default_factory=dict)
    """New names for manifest columns, old name to new name."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Take only the first so many images."""
    max_pixels: Annotated[int, Field(gt=0)] = 178_000_000
    """Images whose header promises more are error rows."""


class ModelConfig(_Section):
    """One model of the job, and what is taken from it."""

    model: str
    """`resnet50`, `resnet50:IMAGENET1K_V2`, `efficientnet_lite0`, `python:package.module:factory`."""
    alias: str | None = Field(default=None, alias="as")
    """Prefix of its columns; by default the name of the task."""
    task: Task | None = None
    """What to take from a model that can do several."""
    weights: str | None = DEFAULT_WEIGHTS
    """Name in the weights enum; null is random initialisation from `seed`."""
    checkpoint: str | None = None
    """Path of own weights: a state dict or safetensors."""
    categories: tuple[str, ...] | str | None = None
    """Names for own weights, as a list or a file with one name a line."""
    sha256: str | None = None
    """Expected hash of the weights file."""
    seed: int = 0
    """Seed of random weights."""
    top_k: Annotated[int, Field(gt=0)] = 5
    """Classification: how many of the best classes are kept."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Detection: boxes below are dropped; by default the model's own threshold."""
    normalize: bool = False
    """Embedding: scale each vector to length 1."""
    dtype: Literal["float32", "float16"] = "float32"
    """Embedding: type of the vectors."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a `python:` factory."""

    @field_validator("alias")
    @classmethod
    def _alias_is_a_column_prefix(cls, value: str | None) -> str | None:
        if value is not None and not ALIAS.fullmatch(value):
            raise ValueError(f"expected lower-case letters, digits and _ starting with a letter, got {value!r}")
        return value

    @model_validator(mode="after")
    def _weights_have_one_origin(self) -> ModelConfig:
        if self.checkpoint and self.weights not in (None, DEFAULT_WEIGHTS):
            raise ValueError("give checkpoint: or weights:, not both")
        return self


class ComputeConfig(_Section):
    """Where and how the models run; may change between starts, but for the precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    batch_size: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Images in one forward pass."""
    unit_rows: Annotated[int, Field(gt=0, le=4096)] | Literal["auto"] = "auto"
    """Images that move through the cluster together."""
    num_actors: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Processes that hold the models."""


class OutputConfig(_Section):
    """Where the predictions go."""

    uri: str


class Job(_Section):
    """A whole job file."""

    source: SourceConfig
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    compute: ComputeConfig = ComputeConfig()
    output: OutputConfig

    def identity(self) -> dict[str, Any]:
        """What must stay the same for two starts to be the same run.

        Returns:
            Plain JSON data: the source without its limit, the models, the precision as asked.
        """
        return {
            "source": self.source.model_dump(mode="json", exclude={"limit"}),
            "models": [model.model_dump(mode="json") for model in self.models],
            "precision": self.compute.precision,
        }


def load_job(
    path: str | None = None, *, overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None
) -> Job:
    """Read a job file, lay options over it and check the whole.

    Args:
        path: A YAML file, or None for a job made of options only.
        overrides: `dotted.path=YAML value`, applied last and in order.
        defaults: Nested values of the flags, laid over the file.

    Raises:
        JobError: With everything that is wrong, in one message of one line.
    """
    data: Any = {}
    if path is not None:
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise JobError(f"cannot read the job file {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise JobError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(data, dict):
            raise JobError(f"{path}: expected a mapping with source, models and output, got {type(data).__name__}")
    data = _merge(data, defaults or {})
    for override in overrides:
        _set(data, override)
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        where = f"{path}: " if path else ""
        raise JobError(where + "; ".join(_explain(item) for item in error.errors())) from None


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _set(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise JobError(f"--set {override}: expected KEY=VALUE, such as compute.precision=fp32")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise JobError(f"--set {override}: {text!r} is not a YAML value") from None
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = _step(node, part, override)
    if isinstance(node, list):
        _step(node, last, override)
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise JobError(f"--set {override}: {'.'.join(parents)} is {node!r}, not a mapping or a list")


def _step(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        if part.isdigit() and int(part) < len(node):
            return node[int(part)]
        raise JobError(f"--set {override}: expected a list position from 0 to {len(node) - 1}, got {part!r}")
    if isinstance(node, dict):
        return node.setdefault(part, {})
    raise JobError(f"--set {override}: nothing lies below {part!r}")


def _explain(item: Mapping[str, Any]) -> str:
    place = [part for part in item["loc"] if part in _KNOWN or isinstance(part, int)]
    name = ".".join(str(part) for part in (item["loc"] if item["type"] == "extra_forbidden" else place))
    if item["type"] == "extra_forbidden":
        *parents, last = item["loc"]
        known = _keys_at(parents)
        near = difflib.get_close_matches(str(last), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{name}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{name}: missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{name}: {message[0].lower() + message[1:]}, got {item.get('input')!r}" if name else message


def _keys_at(parents: Sequence[Any]) -> list[str]:
    section = {"source": SourceConfig, "models": ModelConfig, "compute": ComputeConfig, "output": OutputConfig}
    at: type[_Section] = section.get(str(parents[0]), Job) if parents else Job
    return [field.alias or name for name, field in at.model_fields.items()]


_KNOWN = {
    field.alias or name
    for section in (Job, SourceConfig, ModelConfig, ComputeConfig, OutputConfig)
    for name, field in section.model_fields.items()
}
