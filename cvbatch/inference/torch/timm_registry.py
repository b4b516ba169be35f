"""Print the registry of the installed timm as JSON; `cvbatch.models.timm.registry` runs it as a program."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from cvbatch.inference.torch.fast_import import import_torchvision


def read_registry() -> dict[str, Any]:
    """All models of timm with their settings, and the names of ImageNet's classes; plain data."""
    import_torchvision()
    timm: Any = importlib.import_module("timm")
    data, models = timm.data, timm.models
    architectures = timm.list_models()
    settings: dict[str, Any] = {}
    for architecture in architectures:
        found = {architecture: models.get_pretrained_cfg(architecture), **models.get_arch_pretrained_cfgs(architecture)}
        settings |= {name: entry.to_dict(remove_null=True) for name, entry in found.items() if entry is not None}
    counts = sorted({entry["num_classes"] for entry in settings.values()})
    sets = {count: name for count in counts if (name := data.infer_imagenet_subset({"num_classes": count}))}
    return {
        "architectures": architectures,
        "settings": settings,
        "category_sets": {name: data.ImageNetInfo(name).label_descriptions() for name in sorted(set(sets.values()))},
        "sets_by_count": sets,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(read_registry()))
