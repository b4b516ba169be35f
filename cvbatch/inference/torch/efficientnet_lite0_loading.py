"""From a spec to EfficientNet-Lite0 on its device: the loader of `cvbatch.models.backends.embedded`."""

from __future__ import annotations

from functools import partial

from cvbatch.inference.network import Forward, Network
from cvbatch.inference.settings import Setting
from cvbatch.inference.torch import efficientnet_lite0
from cvbatch.inference.torch.loading import compiled_if_set, guarded, with_fitting_categories
from cvbatch.inference.torch.tensors import Normalised, place
from cvbatch.models.spec import ModelSpec


def load_network(spec: ModelSpec, *, device: str, setting: Setting) -> Network:
    """Load the network of a spec; see `loading.load`."""
    return guarded(partial(_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe`."""
    return with_fitting_categories(spec, efficientnet_lite0.shapes)


def _forward(spec: ModelSpec, device: str, setting: Setting) -> Forward:
    module = place(efficientnet_lite0.load(spec), device, setting)
    features = compiled_if_set(efficientnet_lite0.Features(module), spec, device, setting)
    return efficientnet_lite0.Lite0(
        features, efficientnet_lite0.head(module), Normalised(efficientnet_lite0.MEAN, efficientnet_lite0.STD, device)
    )
