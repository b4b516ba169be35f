"""Base of the kinds whose models are named by a prefix: those of a hub or in a folder, for a library of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from cvbatch.models.backends.base import Backend
from cvbatch.models.backends.torch_settings import torch_settings
from cvbatch.models.spec import ModelSpec

_KNOWN_AFTER_PROBE: Final = ("dimension", "gflops")


class HubBackend(Backend):
    """Networks that a library builds from a description."""

    prefix: ClassVar[str]
    """Before the colon in the name of a model; alone, with a folder in `checkpoint`."""

    def understands_model(self, model: str) -> bool:
        """Whether it is the prefix, with a folder in `checkpoint`, or the prefix with a name."""
        return model == self.prefix or model.startswith(f"{self.prefix}:")

    def needs_probe(self, spec: ModelSpec) -> bool:
        """Always true: only the network knows whether the weights fit, the length of its vectors, and its work."""
        return True

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """All but what a forward pass shows."""
        return {key: value for key, value in data.items() if key not in _KNOWN_AFTER_PROBE}

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """See `torch_settings`; these networks are not compiled."""
        return torch_settings(spec) - {"compiled"}

    def display_name(self, spec: ModelSpec) -> str:
        """The name in the job, without the place of a folder."""
        return f"{self.prefix}:{spec.name}"
