"""Tiny models of transformers with a mask for each query, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.rigs.transformers_models import make_model, names_of, save_model

_SIDES = {"shortest_edge": 64, "longest_edge": 120}
_OF_QUERIES = ("queries", "query_pos", "class_predictor", "class_labels_classifier")
_SWIN = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def _make_varied(kind: str, config: Any, *, seed: int = 1, spread: float = 0.2) -> transformers.PreTrainedModel:
    """A network whose queries differ, so that they have several classes."""
    model = make_model(kind, config, seed=seed, spread=spread)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and any(word in name for word in _OF_QUERIES):
                parameter.mul_(5)
    return model


def save_mask2former(folder: Path, *, classes: int = 5) -> Path:
    """Save a tiny Mask2Former."""
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(**_SWIN),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
        **names_of(classes),
    )
    settings = {"image_processor_type": "Mask2FormerImageProcessor", "size": _SIDES}
    return save_model(_make_varied("Mask2FormerForUniversalSegmentation", config, seed=0, spread=0.1), folder, settings)


def save_maskformer(folder: Path, *, classes: int = 5) -> Path:
    """Save a tiny MaskFormer."""
    config = transformers.MaskFormerConfig(
        fpn_feature_size=32,
        mask_feature_size=32,
        backbone_config=transformers.SwinConfig(**_SWIN),
        decoder_config=transformers.DetrConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            num_queries=6,
        ),
        **names_of(classes),
    )
    settings = {"image_processor_type": "MaskFormerImageProcessor", "size": _SIDES}
    return save_model(_make_varied("MaskFormerForInstanceSegmentation", config), folder, settings)


def save_detr_for_masks(folder: Path, *, classes: int = 5) -> Path:
    """Save a tiny DETR for segmentation."""
    config = transformers.DetrConfig(
        backbone_config=transformers.ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 16, 24],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        **names_of(classes),
    )
    settings = {"image_processor_type": "DetrImageProcessor", "size": _SIDES}
    return save_model(_make_varied("DetrForSegmentation", config), folder, settings)
