"""Where compiled networks lie; the driver asks, so torch is not imported."""

from __future__ import annotations

from pathlib import Path

from cvbatch.inference.settings import Setting
from cvbatch.models.spec import ModelSpec
from cvbatch.system.cache_files import kept_file
from cvbatch.system.cpu import instructions, processor
from cvbatch.system.versions import versions


def package(spec: ModelSpec, setting: Setting) -> Path:
    """Where the compiled network of a spec lies, or would lie.

    Args:
        spec: Whose network it is.
        setting: What it is compiled for.
    """
    key = {
        "network": [
            spec.kind,
            spec.name,
            spec.weights,
            spec.weights_sha256,
            spec.seed,
            spec.categories,
            spec.view.crop,
        ],
        "machine": [processor(), instructions()],
        "precision": setting.precision,
        "versions": versions(),
    }
    return kept_file("compiled", key, ".pt2")
