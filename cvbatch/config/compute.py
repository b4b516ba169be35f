"""What every section of the job file is, how one names an object store, and where and how the models run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cvbatch.config.types import Duration
from cvbatch.errors import JobError
from cvbatch.storage.location import Location
from cvbatch.storage.options import OPTION_NAMES, StorageOptions

Count = Annotated[int, Field(gt=0, strict=True)]
AutoOrOff = Annotated[Literal["auto", "off"], BeforeValidator(lambda given: "off" if given is False else given)]
"""YAML reads a plain `off` as false."""


class ConfigSection(BaseModel):
    """A part of the job file: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class StorageSection(ConfigSection):
    """How to reach an object store; of no account for a local path. Never credentials: each machine finds its own."""

    endpoint_url: str | None = None
    """Where the service is, such as `https://minio.example.org:9000`; by default as the environment says, or Amazon."""
    region: str | None = None
    """By default as the environment says, or that of the bucket."""
    path_style: bool | None = None
    """Whether the bucket stands in the path; by default only with an endpoint that is not Amazon's."""
    anonymous: bool = False
    """Ask without credentials."""
    profile: str | None = None
    """Section of the shared AWS files, on each machine."""

    @property
    def storage_options(self) -> StorageOptions:
        """These options alone."""
        return StorageOptions(**{name: getattr(self, name) for name in OPTION_NAMES})


def check_location_options(uri: str, section: StorageSection) -> None:
    """See that a location is one that can be reached as a section says.

    Raises:
        ValueError: With the reason, as pydantic wants it.
    """
    try:
        Location.from_uri(uri, section.storage_options)
    except JobError as error:
        raise ValueError(str(error)) from None


class StageConfig(ConfigSection):
    """On which nodes of a cluster a stage may run; by default on all."""

    resources: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Custom resources of Ray that one task or process of the stage takes."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of Ray that a node must have, such as `ray.io/market-type: spot`."""
    accelerator_type: str | None = None
    """Kind of GPU that a node must have, as Ray calls it: `A100`, `H100`, `L4`."""

    def label_selector(self) -> dict[str, str]:
        """The labels that a node must have."""
        kind = {} if self.accelerator_type is None else {"ray.io/accelerator-type": self.accelerator_type}
        return {**self.labels, **kind}


class ComputeConfig(ConfigSection):
    """Where and how the models run; may change between starts, but for the precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    scaled_decode: AutoOrOff = "auto"
    """Whether `precision: auto` may let JPEGs that are much larger than the models need be scaled down on decoding."""
    batch_size: Count | Literal["auto"] = "auto"
    """Images in one forward pass."""
    unit_rows: Annotated[int, Field(gt=0, le=4096, strict=True)] | Literal["auto"] = "auto"
    """Images that move through the cluster together."""
    num_actors: Count | Literal["auto"] = "auto"
    """Processes that hold the models."""
    max_error_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.2
    """Stop when more than this share of a start's rows, after the first 1,000, are errors."""
    stop_after: Duration | None = None
    """End in a clean commit after so long, such as `8h` or `90m`."""
    max_cost: Annotated[float, Field(gt=0, strict=True)] | None = None
    """End in a clean commit when a start has cost so much; needs `price_per_node_hour`."""
    price_per_node_hour: Annotated[float, Field(gt=0, strict=True)] | None = None
    """What one node costs in an hour, in any currency."""
    decode: StageConfig = StageConfig()
    """Where images are fetched and decoded."""
    predict: StageConfig = StageConfig()
    """Where the models run."""
    wait_for_nodes: Duration | None = None
    """How long to wait for a first node of a cluster that begins with none; given, also for one with a GPU."""
    shared_filesystem: bool = False
    """Whether all machines of a cluster see the same files under the same paths, so that they may be local ones."""
    ray_start_timeout: Duration = 60.0
    """Give up when Ray, or the cluster that `RAY_ADDRESS` names, is not there after so long."""
    stalled_after: Duration = 600.0
    """Give up on units that have not moved for so long, and try them again in smaller pieces."""

    @model_validator(mode="after")
    def _check_cost_has_price(self) -> ComputeConfig:
        if self.max_cost is not None and self.price_per_node_hour is None:
            raise ValueError("max_cost needs price_per_node_hour")
        return self
