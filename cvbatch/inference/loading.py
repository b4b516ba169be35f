"""From a spec to a network on its device; what is heavy is imported only if the spec needs it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Hashable
from typing import Any

from cvbatch.errors import ModelError
from cvbatch.inference.network import Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec


def network_key(spec: ModelSpec) -> Hashable:
    """Specs with equal keys share one network."""
    return (spec.kind, backend_of(spec).network_key(spec))


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec.

    Args:
        spec: Complete; see `probe_model`.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: How it runs; a `python:` model decides for itself.

    Raises:
        ModelError: The weights do not fit, the factory fails, or a package is missing.
    """
    network: Network = _loader_module(spec).load_network(spec, device=device, setting=setting)
    return network


def probe_model(spec: ModelSpec) -> ModelSpec:
    """Fill in what only the model itself can tell.

    Args:
        spec: Of `models.resolve.resolve`.

    Returns:
        A complete spec; the same one if it was complete.

    Raises:
        ModelError: The checkpoint's head does not fit the categories, the factory fails, or a package is missing.
    """
    if not backend_of(spec).needs_probe(spec):
        return spec
    completed: ModelSpec = _loader_module(spec).complete_spec(spec)
    return completed


def _loader_module(spec: ModelSpec) -> Any:
    """The module that loads models of this kind; see `Backend.loader`."""
    backend = backend_of(spec)
    missing = [install for module, install in backend.packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ModelError(
            f"{backend.display_name(spec)}: needs packages that are missing: pip install {' '.join(missing)}"
        )
    return importlib.import_module(backend.loader)
