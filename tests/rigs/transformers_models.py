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


STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}
"""Of a tiny ResNet."""
LAST_THREE = ["stage2", "stage3", "stage4"]


def save_rt_detr(folder: Path, *, classes: int = 5) -> Path:
    """Save a tiny RT-DETR for detection."""
    config = transformers.RTDetrConfig(
        backbone_config=transformers.RTDetrResNetConfig(**STAGES, out_features=LAST_THREE),
        encoder_hidden_dim=16,
        encoder_in_channels=[16, 16, 24],
        encoder_ffn_dim=24,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=24,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
        **names_of(classes),
    )
    settings = {"image_processor_type": "RTDetrImageProcessor", "size": {"height": 96, "width": 96}}
    return save_model(make_model("RTDetrForObjectDetection", config), folder, settings)


def save_segformer(folder: Path, *, classes: int = 5) -> Path:
    """Save a tiny SegFormer for semantic segmentation."""
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        **names_of(classes),
    )
    settings = {"image_processor_type": "SegformerImageProcessor", "size": {"height": 64, "width": 96}}
    return save_model(make_model("SegformerForSemanticSegmentation", config), folder, settings)


_DEEP = {**SMALL, "num_hidden_layers": 4}


def save_dpt(folder: Path) -> Path:
    """Save a tiny DPT for depth; it takes squares."""
    config = transformers.DPTConfig(
        **_DEEP,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        readout_type="ignore",
        is_hybrid=False,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    settings = {"image_processor_type": "DPTImageProcessor", "size": {"height": 64, "width": 64}}
    return save_model(make_model("DPTForDepthEstimation", config), folder, settings)


def save_depth_anything(folder: Path) -> Path:
    """Save a tiny Depth Anything; it keeps proportions."""
    stages = {"out_indices": [1, 2, 3, 4], "apply_layernorm": True, "reshape_hidden_states": False}
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**_DEEP, image_size=70, patch_size=14, **stages),
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )
    settings = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 70, "width": 70},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
    }
    return save_model(make_model("DepthAnythingForDepthEstimation", config), folder, settings)
