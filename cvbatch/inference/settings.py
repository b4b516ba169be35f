"""Settings that trade the last digits of the answers for speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.system.formats import RecordFormat


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How the models of a job run."""

    precision: str = "fp32"
    """`fp32`, `bf16` or `fp16`."""
    scaled_decode: bool = False
    """Scale JPEGs that are much larger than the models need down while they are decoded."""
    device_decode: bool = False
    """Decode and resize plain JPEGs on the GPU."""
    channels_last: bool = True
    """Keep the channels of a pixel together in memory."""
    compiled: bool = False
    """Compile networks ahead of time if their view has a fixed size."""
    padded: bool = False
    """Pad images of similar sizes so that they share a batch of a detector; at most 15 % more pixels."""
    batch_factor: float = 1.0
    """Factor on the default number of images in a forward pass."""
    lanes: int | None = None
    """Batches that run at the same time; None is one per core of a CPU, and a few on a GPU."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; the certificate around it holds the format number."""
        return _SETTING.to_plain_fields(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> InferenceSettings:
        """The inverse of `to_json`."""
        return _SETTING.from_json(data, "a certificate")

    def __str__(self) -> str:
        """Differences from the reference, in words."""
        words = {
            "large JPEGs scaled while decoding": self.scaled_decode,
            "JPEGs decoded on the device": self.device_decode,
            "channels first": not self.channels_last,
            "compiled": self.compiled,
            "detection batches padded": self.padded,
            f"batches {self.batch_factor:g} times as large": self.batch_factor != 1,
            f"{self.lanes} batch at once": self.lanes is not None,
        }
        return ", ".join([self.precision, *(word for word, differs in words.items() if differs)])


_SETTING: Final = RecordFormat("setting", InferenceSettings)
REFERENCE: Final = InferenceSettings()
"""The settings whose answers all others must match."""
