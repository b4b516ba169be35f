"""Load NanoDet-g onto its device; the loader of `cvbatch.models.backends.nanodet`."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch

from cvbatch.inference.network import ForwardPass, Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch import checkpoint
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.loading import run_in_context, with_fitting_categories
from cvbatch.inference.torch.nanodet import NanoDet
from cvbatch.inference.torch.tensors import BatchNormalizer, place_on_device
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec

MEAN: Final = (123.675 / 255, 116.28 / 255, 103.53 / 255)
STD: Final = (58.395 / 255, 57.12 / 255, 57.375 / 255)


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec; see `loading.load_network`."""
    return run_in_context(partial(_make_nanodet_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`."""
    return with_fitting_categories(spec, nanodet_state_shapes)


def nanodet_state_shapes(num_categories: int) -> dict[str, torch.Size]:
    """Shapes of all parameters for a number of categories, the background among them, without allocating them."""
    with torch.device("meta"):
        return {key: value.shape for key, value in NanoDet(num_categories - 1).state_dict().items()}


def load_nanodet(spec: ModelSpec) -> NanoDet:
    """Build the network of a spec and load its weights.

    Raises:
        ModelError: The file is not a state dict of this network.
    """
    module = NanoDet(sum(name is not None or index > 0 for index, name in enumerate(spec.categories)))
    state = checkpoint.read_matching_state(weights.fetch_for_spec(spec), list(module.state_dict()))
    module.load_state_dict(checkpoint.drop_auxiliary_heads(state, module))
    return module


def _make_nanodet_forward(spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    import_torchvision()
    from cvbatch.inference.torch.nanodet_boxes import NanoDetNetwork

    module = place_on_device(load_nanodet(spec), device, setting)
    return NanoDetNetwork(module, BatchNormalizer(MEAN, STD, device))
