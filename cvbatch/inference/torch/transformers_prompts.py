"""Networks that look for texts, which are encoded once for all images."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor, nn

from cvbatch.models.transformers.reading import TransformersReading

_TEXTS_AT_ONCE: Final = 64


def wrap_prompted(module: nn.Module, reading: TransformersReading) -> nn.Module:
    """Make a module that maps a batch to scores of prompts; see `transformers_modules.wrap_module`.

    Args:
        module: A network of transformers, on its device.
        reading: With tokens of the prompts.

    Returns:
        A module that maps (batch, 3, height, width) to logits of the prompts, and the vectors or boxes that they are
        of.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _WRAPPERS[reading.head](module.eval(), reading)


class _PromptScores(nn.Module):
    """CLIP and SigLIP: logits for each prompt, (batch, prompts), and the vectors of the images."""

    def __init__(self, module: Any, reading: TransformersReading) -> None:
        super().__init__()
        texts = _encode_texts(module, reading.tokens)
        bias: Tensor | None = getattr(module, "logit_bias", None)
        self._texts = nn.Buffer((_unit(texts) * module.logit_scale.float().exp()).T.contiguous())
        self._bias = nn.Buffer(torch.zeros((), device=texts.device) if bias is None else bias.float().clone())
        self._module = _without_texts(module)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        features = _features_of(self._module.get_image_features(pixel_values=batch))
        # scores are differences of large numbers
        with torch.autocast(batch.device.type, enabled=False):
            return _unit(features.float()) @ self._texts + self._bias, features


class _PromptedPatches(nn.Module):
    """OWL-ViT and OWLv2: logits of each patch for each prompt, (batch, patches, prompts), and the boxes of patches."""

    def __init__(self, module: Any, reading: TransformersReading) -> None:
        super().__init__()
        inner = module.owlvit if hasattr(module, "owlvit") else module.owlv2
        self._texts = nn.Buffer(_encode_texts(inner, reading.tokens))
        _without_texts(inner)
        self._module = module

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        grid, _ = self._module.image_embedder(pixel_values=batch)
        patches = grid.flatten(1, 2)
        logits, _ = self._module.class_predictor(patches, self._texts.expand(len(batch), -1, -1))
        return logits, self._module.box_predictor(patches, grid)


class _GroundedQueries(nn.Module):
    """Grounding DINO: logits of each query for each prompt, (batch, queries, prompts), and the boxes of queries.

    The logit of a prompt is that of its best token. A long list is several texts; each has queries of its own.
    """

    def __init__(self, module: Any, reading: TransformersReading) -> None:
        super().__init__()
        device = module.device
        self._tokens = [torch.tensor([text], device=device) for text in reading.tokens]
        module.model.text_backbone = _EncodedTexts(module.model.text_backbone, len(self._tokens))
        module.model.backbone = self._backbone = _OnceForAllTexts(module.model.backbone)
        self._module = module
        self._prompts = 1 + max(owner for text in reading.owners for owner in text)
        self._owners = [torch.tensor(text, device=device) for text in reading.owners]

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        with self._backbone:
            parts = [self._answer(batch, *text) for text in zip(self._tokens, self._owners, strict=True)]
        logits, boxes = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return logits, boxes

    def _answer(self, batch: Tensor, tokens: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        output = self._module(pixel_values=batch, input_ids=tokens.expand(len(batch), -1))
        logits = output.logits[..., : len(owners)][..., owners >= 0].float()
        index = owners[owners >= 0].expand(logits.shape)
        of_prompts = logits.new_full((*logits.shape[:2], self._prompts), -torch.inf)
        return of_prompts.scatter_reduce(2, index, logits, "amax"), output.pred_boxes


class _EncodedTexts(nn.Module):
    """A text backbone that encodes each text once, and is let go when it has encoded all."""

    def __init__(self, backbone: nn.Module, texts: int) -> None:
        super().__init__()
        self._backbone: nn.Module | None = backbone
        self._texts = texts
        self._by_tokens: dict[tuple[int, ...], Tensor] = {}

    def forward(self, tokens: Tensor, *others: Tensor, **options: Any) -> SimpleNamespace:
        key = tuple(tokens[0].tolist())
        backbone = self._backbone
        if key not in self._by_tokens and backbone is not None:
            output = backbone(tokens[:1], *(tensor[:1] for tensor in others), **options)
            self._by_tokens[key] = output.last_hidden_state
            if len(self._by_tokens) == self._texts:
                self._backbone = None
        return SimpleNamespace(last_hidden_state=self._by_tokens[key].expand(len(tokens), -1, -1))


class _OnceForAllTexts(nn.Module):
    """A backbone that computes the features of a batch once, for all texts that it is compared with."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self._inner = backbone
        self._kept = threading.local()

    def __enter__(self) -> None:
        self._kept.features = None

    def __exit__(self, *_: object) -> None:
        self._kept.features = None

    def forward(self, *inputs: Any) -> tuple[list[Any], list[Any]]:
        if self._kept.features is None:
            self._kept.features = self._inner(*inputs)
        features, positions = self._kept.features
        return list(features), list(positions)  # the caller adds to them


def _encode_texts(module: Any, texts: Sequence[Sequence[int]]) -> Tensor:
    """The vectors of texts in their order, (texts, dimension); those of one length together, so none is padded."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for position, tokens in enumerate(texts):
        by_length[len(tokens)].append(position)
    vectors: dict[int, Tensor] = {}
    for positions in by_length.values():
        for start in range(0, len(positions), _TEXTS_AT_ONCE):
            some = positions[start : start + _TEXTS_AT_ONCE]
            batch = torch.tensor([texts[position] for position in some], device=module.device)
            vectors |= zip(some, _features_of(module.get_text_features(input_ids=batch)).float(), strict=True)
    return torch.stack([vectors[position] for position in range(len(texts))])


def _features_of(output: Any) -> Tensor:
    """The vectors of an output, which is a tensor in some versions of transformers."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _without_texts(module: Any) -> Any:
    """Let go of the parts for texts, whose work is done."""
    for name in ("text_model", "text_projection"):
        if hasattr(module, name):
            setattr(module, name, None)
    return module


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return unit


_WRAPPERS: Final[dict[str, Callable[[nn.Module, TransformersReading], nn.Module]]] = {
    "prompts": _PromptScores,
    "prompted_patches": _PromptedPatches,
    "grounded": _GroundedQueries,
}
