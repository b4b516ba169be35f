"""Load EfficientNet-Lite0 onto its device; the loader of `cvbatch.models.backends.embedded`."""

from __future__ import annotations

from functools import partial

from cvbatch.inference.network import ForwardPass, Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch import efficientnet_lite0
from cvbatch.inference.torch.loading import compiled_if_set, run_in_context, with_fitting_categories
from cvbatch.inference.torch.tensors import BatchNormalizer, place_on_device
from cvbatch.models.spec import ModelSpec


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec; see `loading.load_network`."""
    return run_in_context(partial(_make_lite0_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`."""
    return with_fitting_categories(spec, efficientnet_lite0.lite0_state_shapes)


def _make_lite0_forward(spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    module = place_on_device(efficientnet_lite0.load_lite0(spec), device, setting)
    features = compiled_if_set(efficientnet_lite0.FeatureExtractor(module), spec, device, setting)
    return efficientnet_lite0.Lite0Network(
        features,
        efficientnet_lite0.classifier_head(module),
        BatchNormalizer(efficientnet_lite0.MEAN, efficientnet_lite0.STD, device),
    )
