"""Load a torchvision network onto its device; the loader of `cvbatch.models.backends.torchvision`."""

from __future__ import annotations

from functools import partial

from cvbatch.inference.network import ForwardPass, Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.loading import run_in_context, with_fitting_categories
from cvbatch.inference.torch.tensors import place_on_device
from cvbatch.models.spec import ModelSpec


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec; see `loading.load_network`."""
    return run_in_context(partial(_make_builder_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`."""
    import_torchvision()
    from cvbatch.inference.torch import torchvision_models

    return with_fitting_categories(spec, partial(torchvision_models.builder_state_shapes, spec.name))


def _make_builder_forward(spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    import_torchvision()
    from cvbatch.inference.torch import torchvision_families, torchvision_models

    module = place_on_device(torchvision_models.load_torchvision(spec), device, setting)
    return torchvision_families.family_of(spec.name).forward(module, spec, device, setting)
