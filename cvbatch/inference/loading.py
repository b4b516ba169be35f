"""Load the network of a spec onto its device; heavy packages are imported only if the spec needs them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from cvbatch.errors import ModelError
from cvbatch.inference.network import Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec
from cvbatch.models.tiles import check_tiles


def network_key(spec: ModelSpec) -> Hashable:
    """Return a key; specs with equal keys share one network."""
    return (spec.kind, backend_of(spec).network_key(spec))


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec.

    Args:
        spec: A complete spec; see `probe_model`.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: How the network runs; `python:` models ignore it.

    Raises:
        ModelError: The weights do not fit, the factory fails, or a package is missing.
    """
    network: Network = _loader_module(spec).load_network(spec, device=device, setting=setting)
    return network


def probe_model(spec: ModelSpec) -> ModelSpec:
    """Complete a spec with the facts that only the model knows.

    Args:
        spec: From `resolve_models`.

    Returns:
        The complete spec; unchanged if it was complete.

    Raises:
        ModelError: The checkpoint's head does not fit the categories, the factory fails, or a package is missing.
    """
    if not backend_of(spec).needs_probe(spec):
        return spec
    completed: ModelSpec = _loader_module(spec).complete_spec(spec)
    completed = replace(completed, view=replace(completed.view, tiles=spec.view.tiles))
    check_tiles(completed)
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
