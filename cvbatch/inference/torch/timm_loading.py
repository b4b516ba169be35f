"""Load a model of timm onto its device; the loader of `cvbatch.models.backends.timm`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cvbatch.errors import ModelError, try_call
from cvbatch.images.preprocess import compute_output_size
from cvbatch.inference.network import ForwardPass, Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch import checkpoint
from cvbatch.inference.torch.checkpoint import Shapes
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.loading import run_in_context, with_fitting_categories
from cvbatch.inference.torch.tensors import BatchNormalizer, place_on_device
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec
from cvbatch.models.timm.reading import TimmReading
from cvbatch.models.transformers.safetensors_files import SINGLE
from cvbatch.tasks import TASKS

_SQUARE = (640, 640)
"""(width, height) of an image; the sizes that reach a network do not depend on it."""


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec; see `loading.load_network`."""
    return run_in_context(partial(_make_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`: one image goes through the network.

    Raises:
        ModelError: The weights do not fit, or the network fails.
    """
    import_torchvision()
    reading = TimmReading.from_options(spec.options)
    if reading.own_weights and spec.categories:
        spec = with_fitting_categories(spec, partial(_state_shapes, reading))
    module = FeaturesAndLogits(load_module(spec)).eval().requires_grad_(False)
    width, height = compute_output_size(spec.view, _SQUARE)
    image = torch.zeros(1, 3, height, width)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        result = try_call(lambda: module(image))
    if isinstance(result, Exception):
        raise ModelError(f"timm:{spec.name}: fails with {width} × {height} pixels: {_line(result)}")
    vector = result[1]
    if vector.dim() != 2:
        raise ModelError(f"timm:{spec.name}: gives no vector for an image: choose another model")
    return replace(
        spec,
        dimension=vector.shape[1] if "dimension" in TASKS[spec.task].facts else None,
        gflops=counter.get_total_flops() / 2e9 or None,  # multiplications, as torchvision counts
    )


class FeaturesAndLogits(nn.Module):
    """Gives the logits, and the features that the classifier gets.

    Args:
        module: A network of timm.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self._module = module

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (batch, classes) and features (batch, dimension)."""
        positions = self._module.forward_features(batch)
        features: Tensor = self._module.forward_head(positions, pre_logits=True)
        logits: Tensor = self._module.forward_head(positions)
        return logits, features.float().mean(dim=(2, 3)) if features.dim() == 4 else features


def load_module(spec: ModelSpec) -> nn.Module:
    """Build the network of a spec with its weights, by timm's own loading, at fp32.

    Raises:
        ModelError: The weights do not fit.
    """
    import_torchvision()
    reading = TimmReading.from_options(spec.options)
    if spec.weights_path is None:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(spec.seed)
            return _checked(spec, lambda: _create(reading))
    path = weights.fetch_for_spec(spec)
    if reading.own_weights:
        module = _checked(spec, lambda: _create(reading))
        state = checkpoint.read_matching_state(path, list(module.state_dict()))
        fitting = checkpoint.drop_auxiliary_heads(state, module)
        return _checked(spec, lambda: _with_state(module, fitting))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, SINGLE)  # timm knows the format by the suffix
        file.symlink_to(Path(path).resolve())
        origin = {"file": str(file), "url": None, "hf_hub_id": None, "source": None, "custom_load": False}
        return _checked(spec, lambda: _create(reading, pretrained=True, pretrained_cfg_overlay=origin))


def _create(reading: TimmReading, **options: Any) -> nn.Module:
    import timm

    arguments = {**reading.arguments, "num_classes": reading.classes}
    settings = {**reading.settings, "num_classes": reading.classes}
    network: nn.Module = timm.create_model(reading.architecture, pretrained_cfg=settings, **options, **arguments)
    return network


def _with_state(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    module.load_state_dict(state)
    return module


def _checked(spec: ModelSpec, make: Any) -> nn.Module:
    module = try_call(make)
    if isinstance(module, Exception):
        raise ModelError(f"timm:{spec.name}: cannot be loaded: {_line(module)}")
    result: nn.Module = module
    return result


def _state_shapes(reading: TimmReading, classes: int) -> Shapes:
    """Shapes of all parameters and buffers for a number of classes."""
    with torch.device("meta"):
        return {key: value.shape for key, value in _create(replace(reading, classes=classes)).state_dict().items()}


def _make_forward(spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    import_torchvision()
    from cvbatch.inference.torch.classifier import ClassifierNetwork

    reading = TimmReading.from_options(spec.options)
    module = place_on_device(FeaturesAndLogits(load_module(spec)), device, setting)
    return ClassifierNetwork(module, BatchNormalizer(reading.mean, reading.std, device))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
