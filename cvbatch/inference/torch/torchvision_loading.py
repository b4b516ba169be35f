"""From a spec to a torchvision network on its device: the loader of `cvbatch.models.backends.torchvision`."""

from __future__ import annotations

from functools import partial

from cvbatch.inference.network import Forward, Network
from cvbatch.inference.settings import Setting
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.loading import guarded, with_fitting_categories
from cvbatch.inference.torch.tensors import place
from cvbatch.models.spec import ModelSpec


def load_network(spec: ModelSpec, *, device: str, setting: Setting) -> Network:
    """Load the network of a spec; see `loading.load`."""
    return guarded(partial(_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe`."""
    import_torchvision()
    from cvbatch.inference.torch import torchvision_models as torchvision_network

    return with_fitting_categories(spec, partial(torchvision_network.shapes, spec.name))


def _forward(spec: ModelSpec, device: str, setting: Setting) -> Forward:
    import_torchvision()
    from cvbatch.inference.torch import torchvision_families
    from cvbatch.inference.torch import torchvision_models as torchvision_network

    module = place(torchvision_network.load(spec), device, setting)
    return torchvision_families.family_of(spec.name).forward(module, spec, device, setting)
