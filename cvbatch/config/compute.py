"""Base classes of all sections of the job file, and the section `compute`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cvbatch.config.types import Bytes, Duration
from cvbatch.errors import JobError
from cvbatch.storage.location import Location
from cvbatch.storage.options import OPTION_NAMES, StorageOptions

Count = Annotated[int, Field(gt=0, strict=True)]
AutoOrOff = Annotated[Literal["auto", "off"], BeforeValidator(lambda value: "off" if value is False else value)]
"""YAML reads an unquoted `off` as false."""


class ConfigSection(BaseModel):
    """A section of the job file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class StorageSection(ConfigSection):
    """Options for an object store; ignored for local paths. Has no credentials: each machine finds its own."""

    endpoint_url: str | None = None
    """URL of the service, such as `https://minio.example.org:9000`; default: from the environment, else Amazon."""
    region: str | None = None
    """Region; default: from the environment, else that of the bucket."""
    path_style: bool | None = None
    """Whether the bucket is part of the path; default: only if the endpoint is not Amazon's."""
    anonymous: bool = False
    """Send requests without credentials."""
    profile: str | None = None
    """Profile in the shared AWS files of each machine."""

    @property
    def storage_options(self) -> StorageOptions:
        """The storage options of this section."""
        return StorageOptions(**{name: getattr(self, name) for name in OPTION_NAMES})


def check_location_options(uri: str, section: StorageSection) -> None:
    """Check that a location is valid with the storage options of a section.

    Raises:
        ValueError: With the reason; pydantic reports it.
    """
    try:
        Location.from_uri(uri, section.storage_options)
    except JobError as error:
        raise ValueError(str(error)) from None


class StageConfig(ConfigSection):
    """Nodes of a cluster on which a stage may run; by default all nodes."""

    resources: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Ray custom resources that one task or actor of the stage uses."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Ray labels that a node must have, such as `ray.io/market-type: spot`."""
    accelerator_type: str | None = None
    """GPU type that a node must have, by its Ray name: `A100`, `H100`, `L4`."""

    def label_selector(self) -> dict[str, str]:
        """All labels that a node must have."""
        type_label = {} if self.accelerator_type is None else {"ray.io/accelerator-type": self.accelerator_type}
        return {**self.labels, **type_label}


class ComputeConfig(ConfigSection):
    """Where and how the models run; all options except the precision may differ between attempts."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    scaled_decode: AutoOrOff = "auto"
    """Whether `precision: auto` may decode JPEGs at a reduced scale if they are much larger than the models need."""
    batch_size: Count | Literal["auto"] = "auto"
    """Images in one forward pass."""
    unit_rows: Annotated[int, Field(gt=0, le=4096, strict=True)] | Literal["auto"] = "auto"
    """Images in one unit."""
    num_actors: Count | Literal["auto"] = "auto"
    """Number of processes that run the models."""
    model_memory: Bytes | None = None
    """Memory for the models of one process, such as `8GB`; models that need more together run in several passes.
    Default: what the GPU, or the container, has."""
    max_error_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.2
    """Stop if more than this share of an attempt's rows are errors; checked from 1,000 rows on."""
    stop_after: Duration | None = None
    """Stop with a clean commit after this time, such as `8h` or `90m`."""
    max_cost: Annotated[float, Field(gt=0, strict=True)] | None = None
    """Stop with a clean commit when an attempt has cost this much; needs `price_per_node_hour`."""
    price_per_node_hour: Annotated[float, Field(gt=0, strict=True)] | None = None
    """Price of one node for one hour, in any currency."""
    decode: StageConfig = StageConfig()
    """Where images are fetched and decoded."""
    predict: StageConfig = StageConfig()
    """Where the models run."""
    wait_for_nodes: Duration | None = None
    """How long to wait for the first node of a cluster that starts with none; if set, also for the first GPU node."""
    shared_filesystem: bool = False
    """Whether all machines of a cluster see the same files under the same paths, so that jobs may use local paths."""
    ray_start_timeout: Duration = 60.0
    """Give up if Ray, or the cluster that `RAY_ADDRESS` names, does not respond within this time."""
    stalled_after: Duration = 600.0
    """Give up on units without progress for this time, and retry their rows in smaller units."""

    @model_validator(mode="after")
    def _check_cost_has_price(self) -> ComputeConfig:
        if self.max_cost is not None and self.price_per_node_hour is None:
            raise ValueError("max_cost needs price_per_node_hour")
        return self
