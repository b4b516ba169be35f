"""Load a model of transformers onto its device; the loader of `cvbatch.models.backends.transformers`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from cvbatch.errors import ModelError, try_call
from cvbatch.images.preprocess import compute_output_size
from cvbatch.inference.network import ForwardPass, Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.loading import run_in_context
from cvbatch.inference.torch.tensors import place_on_device
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec
from cvbatch.models.transformers.files import CONFIG
from cvbatch.models.transformers.reading import TransformersReading
from cvbatch.models.transformers.safetensors_files import SINGLE
from cvbatch.tasks import TASKS

_TYPICAL_SIZE: Final = (640, 480)
"""(width, height) of an image where a view keeps proportions."""
_POOLER: Final = "pooler"
"""Name of the module that some checkpoints leave out, such as DINO's; their vector is the first token."""


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the network of a spec; see `loading.load_network`."""
    return run_in_context(partial(_make_forward, spec, device, setting), device=device, setting=setting)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`: one image goes through the network.

    Raises:
        ModelError: The weights do not fit, or the network cannot take the images that its processor makes.
    """
    from cvbatch.inference.torch.transformers_modules import wrap_module

    reading = TransformersReading.from_options(spec.options)
    module, pooled = load_module(spec)
    width, height = compute_output_size(spec.view, _TYPICAL_SIZE)
    image = torch.zeros(1, 3, height, width)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        result = try_call(lambda: wrap_module(module.eval().requires_grad_(False), reading, pooled=pooled)(image))
    if isinstance(result, Exception):
        raise ModelError(
            f"hf:{spec.name}: {reading.architecture} fails with {width} × {height} pixels: {_line(result)}"
        )
    vector = result[1] if "dimension" in TASKS[spec.task].facts else None
    if vector is not None and vector.dim() != 2:
        raise ModelError(
            f"hf:{spec.name}: {reading.architecture} gives no vector for an image: choose another task or model"
        )
    return replace(
        spec,
        dimension=None if vector is None else vector.shape[1],
        gflops=counter.get_total_flops() / 2e9 or None,  # multiplications, as torchvision counts
    )


def load_module(spec: ModelSpec) -> tuple[Any, bool]:
    """Build the network of a spec with its weights, by transformers' own loading, at fp32.

    Returns:
        The network, and whether it has a pooler, if it can have one.

    Raises:
        ModelError: The weights do not fit.
    """
    import_torchvision()
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    reading = TransformersReading.from_options(spec.options)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG).write_text(json.dumps(reading.config), encoding="utf-8")
        Path(folder, SINGLE).symlink_to(Path(weights.fetch_for_spec(spec)).resolve())
        loaded = try_call(
            lambda: getattr(transformers, reading.architecture).from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        )
    if isinstance(loaded, Exception):
        raise ModelError(f"hf:{spec.name}: {reading.architecture} cannot be loaded: {_line(loaded)}")
    module, info = loaded
    missing = sorted(info["missing_keys"])
    without_pooler = bool(missing) and all(_POOLER in key.split(".") for key in missing)
    if missing and not without_pooler:
        raise ModelError(
            f"hf:{spec.name}: its weights lack {len(missing)} tensors of {reading.architecture}, such as {missing[0]}: "
            "save the model with all of its parts"
        )
    return module, not without_pooler


def _make_forward(spec: ModelSpec, device: str, setting: InferenceSettings) -> ForwardPass:
    import_torchvision()
    from cvbatch.inference.torch.transformers_modules import make_forward_pass, wrap_module

    reading = TransformersReading.from_options(spec.options)
    module, pooled = load_module(spec)
    if reading.tokens:
        module = module.eval().to(device)
    placed = place_on_device(wrap_module(module, reading, pooled=pooled), device, setting)
    return make_forward_pass(placed, reading, device)


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words[:300] or type(error).__name__
