"""Which task the network of a model does, by the name of its class in transformers, and how its outputs are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models.transformers.prompts import TEXT_RULES
from cvbatch.models.transformers.reading import Head
from cvbatch.system.extras import import_extra
from cvbatch.tasks import CLASSIFICATION, DEPTH, DETECTION, EMBEDDING, SEGMENTATION


@dataclass(frozen=True, slots=True)
class Architecture:
    """A class of transformers."""

    name: str
    head: Head
    tasks: tuple[str, ...]
    """The first one is the default."""


_CLASSIFIES: Final = (CLASSIFICATION.name, EMBEDDING.name)
_MASKS: Final = (DETECTION.name, SEGMENTATION.name)
_ENDINGS: Final[Mapping[str, tuple[Head, tuple[str, ...]]]] = {
    "ForImageClassification": ("classes", _CLASSIFIES),
    "ForImageClassificationWithTeacher": ("classes", _CLASSIFIES),
    "ForObjectDetection": ("queries", (DETECTION.name,)),
    "ForSemanticSegmentation": ("pixels", (SEGMENTATION.name,)),
    "ForUniversalSegmentation": ("overlapping_masks", _MASKS),
    "ForInstanceSegmentation": ("overlapping_masks", _MASKS),
    "DetrForSegmentation": ("exclusive_masks", _MASKS),
    "ForDepthEstimation": ("depths", (DEPTH.name,)),
    "VisionModelWithProjection": ("projected", (EMBEDDING.name,)),
    "VisionModel": ("pooled", (EMBEDDING.name,)),
    "Model": ("pooled", (EMBEDDING.name,)),
}
"""By the end of the name, longer ends first."""
_PROMPTED: Final[Mapping[str, tuple[Head, str]]] = {
    "CLIPModel": ("prompts", CLASSIFICATION.name),
    "SiglipModel": ("prompts", CLASSIFICATION.name),
    "OwlViTForObjectDetection": ("prompted_patches", DETECTION.name),
    "Owlv2ForObjectDetection": ("prompted_patches", DETECTION.name),
    "GroundingDinoForObjectDetection": ("grounded", DETECTION.name),
}
"""Classes that look for prompts, as in `TEXT_RULES`; those of both tables can do without."""
_NEEDS_WORDS: Final = "OneFormer"
_MAY_DO_WITHOUT: Final = frozenset(("CLIPModel", "SiglipModel"))
_SUPPORTED: Final = (
    "…ForImageClassification, …ForObjectDetection, …ForSemanticSegmentation, …ForInstanceSegmentation, "
    "…ForUniversalSegmentation, DetrForSegmentation, …ForDepthEstimation, and for embeddings …Model, …VisionModel, "
    "…VisionModelWithProjection"
)


def find_architecture(config: Mapping[str, Any], title: str, *, prompted: bool = False) -> Architecture:
    """Find the class of a model and what it does.

    Args:
        config: Content of `config.json`.
        title: Name of the model, for messages.
        prompted: Whether the job has prompts.

    Raises:
        ModelError: The class is not one of transformers, or does something else.
        UsageError: transformers is missing.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelError(f"{title}: expected architectures: in config.json, with the class of the model, got {names!r}")
    name = names[0]
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), None)
    if not _is_known(name, title):
        own = "; it has code of its own, which is never run" if config.get("auto_map") else ""
        raise ModelError(f"{title}: the installed transformers have no {name}{own}: expected {_SUPPORTED}")
    if name.startswith(_NEEDS_WORDS):
        raise ModelError(f"{title}: {name} is told its task in words, which is not supported: take Mask2Former")
    if ending is None:
        raise ModelError(f"{title}: {name} is not supported: expected {_SUPPORTED}")
    if prompted or (name in _PROMPTED and name not in _MAY_DO_WITHOUT):
        return _prompted_architecture(name, title, prompted)
    head, tasks = _ENDINGS[ending]
    if head == "pooled" and isinstance(config.get("vision_config"), Mapping) and "text_config" in config:
        head = "image_features"
    return Architecture(name, head, tasks)


def _prompted_architecture(name: str, title: str, prompted: bool) -> Architecture:
    if name not in _PROMPTED:
        raise ModelError(
            f"{title}: {name} takes no prompts: leave prompts: out, or take a model of {', '.join(TEXT_RULES)}"
        )
    if not prompted:
        raise ModelError(f"{title}: {name} finds what prompts: say: give some, such as prompts: [cat, dog]")
    head, task = _PROMPTED[name]
    return Architecture(name, head, (task,))


def _is_known(name: str, title: str) -> bool:
    """Whether transformers have a class of this name; importing it would import torch, too."""
    return name in dir(import_extra("transformers", "transformers", title))
