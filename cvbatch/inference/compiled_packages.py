"""Paths of compiled networks; the driver uses them, so torch is not imported."""

from __future__ import annotations

from pathlib import Path

from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.spec import ModelSpec
from cvbatch.system.cache_files import cache_file_path
from cvbatch.system.cpu import instruction_sets, processor_name
from cvbatch.system.versions import package_versions


def compiled_package_path(spec: ModelSpec, setting: InferenceSettings) -> Path:
    """Return the path of a spec's compiled network, whether it exists or not.

    Args:
        spec: The model.
        setting: The settings that it is compiled for.
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
        "machine": [processor_name(), instruction_sets()],
        "precision": setting.precision,
        "versions": package_versions(),
    }
    return cache_file_path("compiled", key, ".pt2")
