"""Tiny models of transformers that look for texts, with random weights and their tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from tests.rigs.tokenizers import BERT_SIZE, END, save_bert_tokenizer, save_clip_tokenizer
from tests.rigs.transformers_models import SMALL, make_model, save_model

SIDES = {"shortest_edge": 96, "longest_edge": 170}
_IMAGES = {**SMALL, "image_size": 64, "patch_size": 16}


def _texts(most: int) -> dict[str, Any]:
    return {**SMALL, "vocab_size": END + 1, "max_position_embeddings": most, "eos_token_id": END}


def save_clip(folder: Path, *, dimension: int = 24) -> Path:
    """Save a tiny CLIP, with its part for texts."""
    config = transformers.CLIPConfig(
        vision_config=_IMAGES, text_config=_texts(16), projection_dim=dimension, logit_scale_init_value=1.0
    )
    settings = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 64}, "crop_size": 64}
    return save_model(make_model("CLIPModel", config), save_clip_tokenizer(folder), settings)


def save_siglip(folder: Path) -> Path:
    """Save a tiny SigLIP; its texts are padded to 64 tokens."""
    config = transformers.SiglipConfig(vision_config=_IMAGES, text_config=_texts(64))
    settings = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}}
    return save_model(make_model("SiglipModel", config), save_clip_tokenizer(folder, padding="<pad>"), settings)


def save_owl(folder: Path, kind: str = "OwlViT") -> Path:
    """Save a tiny OWL-ViT, or with `Owlv2` another one; it takes texts of 16 tokens."""
    config = getattr(transformers, f"{kind}Config")(
        vision_config=_IMAGES, text_config=_texts(16), projection_dim=SMALL["hidden_size"]
    )
    settings = {"image_processor_type": f"{kind}ImageProcessor", "size": {"height": 64, "width": 64}}
    model = make_model(f"{kind}ForObjectDetection", config, spread=0.15)
    return save_model(model, save_clip_tokenizer(folder), settings)


def save_grounding_dino(folder: Path, *, most: int = 24) -> Path:
    """Save a tiny Grounding DINO; it takes `most` tokens in one text."""
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], window_size=4, out_indices=[1, 2, 3]
        ),
        text_config=transformers.BertConfig(**SMALL, vocab_size=BERT_SIZE, max_position_embeddings=most),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_queries=12,
        num_feature_levels=3,
        max_text_len=most,
    )
    settings = {"image_processor_type": "GroundingDinoImageProcessor", "size": SIDES}
    model = make_model("GroundingDinoForObjectDetection", config, spread=0.1)
    return save_model(model, save_bert_tokenizer(folder), settings)
