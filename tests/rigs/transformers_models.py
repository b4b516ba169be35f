"""Tiny models of transformers with random weights, saved as people save theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoImageProcessor, PreTrainedModel

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}


def names_of(count: int) -> dict[str, Any]:
    """Keywords of a configuration with that many classes."""
    return {"id2label": {label: f"class {label}" for label in range(count)}, "num_labels": count}


def make_model(kind: str, config: Any, *, seed: int = 0, spread: float = 0.3, gain: float = 1.5) -> PreTrainedModel:
    """A network with weights so large that its answers vary from image to image.

    Args:
        kind: Name of a class of transformers.
        config: Its configuration.
        seed: Of the weights.
        spread: Standard deviation of the weights.
        gain: Largest factor after a normalisation.
    """
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, spread)
            elif "norm" not in name.lower():
                parameter.normal_(0, 0.1)
            elif name.endswith("weight"):
                parameter.uniform_(1, gain)
    return model


def save_model(model: PreTrainedModel, folder: Path, processor: Mapping[str, Any], **options: Any) -> Path:
    """Save a network and the settings of its processor.

    Args:
        model: The network.
        folder: Created if it is missing.
        processor: Content of `preprocessor_config.json`.
        options: Arguments of `save_pretrained`.
    """
    model.save_pretrained(folder, **options)
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(processor)))
    return folder


def own_processor(folder: Path) -> Any:
    """The processor of a saved model as transformers make it, with Pillow's resizing."""
    return AutoImageProcessor.from_pretrained(folder, backend="pil")


def save_vit(folder: Path, *, classes: int = 7, size: int = 64, seed: int = 0) -> Path:
    """Save a tiny ViT for classification."""
    config = transformers.ViTConfig(**SMALL, image_size=size, patch_size=16, **names_of(classes))
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": size, "width": size}}
    return save_model(make_model("ViTForImageClassification", config, seed=seed), folder, settings)
