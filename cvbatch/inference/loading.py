"""From a spec to a network on its device; torch is imported only if the spec needs it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from cvbatch.inference.network import Network
from cvbatch.inference.python import loading as python_loading
from cvbatch.inference.python import network
from cvbatch.inference.settings import Setting
from cvbatch.models import resolve
from cvbatch.models.spec import ModelSpec


def network_key(spec: ModelSpec) -> Hashable:
    """Specs with equal keys share one network."""
    threshold = spec.score_threshold if spec.kind == "torchvision" and spec.task == "detection" else None
    options = repr(sorted(spec.options.items()))
    return (spec.kind, spec.name, spec.weights, spec.weights_path, spec.seed, spec.categories, threshold, options)


def load(spec: ModelSpec, *, device: str, setting: Setting) -> Network:
    """Load the network of a spec.

    Args:
        spec: Complete; see `probe`.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: How it runs; a `python:` model decides for itself.

    Raises:
        ModelError: The weights do not fit, or the factory fails.
    """
    if spec.kind == "python":
        return network.PythonNetwork(python_loading.load(spec))
    from cvbatch.inference.torch import loading as torch_loading

    return torch_loading.load(spec, device=device, setting=setting)


def probe(spec: ModelSpec) -> ModelSpec:
    """Fill in what only the model itself can tell.

    Args:
        spec: Of `registry.resolve`.

    Returns:
        A complete spec; the same one if it was complete.

    Raises:
        ModelError: The checkpoint's head does not fit the categories, or the factory fails.
    """
    if not resolve.needs_probe(spec):
        return spec
    if spec.kind == "python":
        return python_loading.complete(spec, python_loading.load(spec))
    from cvbatch.inference.torch import loading as torch_loading

    fitted = torch_loading.fit_categories(spec)
    named = sum(name is not None for name in fitted.categories)
    return replace(fitted, top_k=min(fitted.top_k, named))
