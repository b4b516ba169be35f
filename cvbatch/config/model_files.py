"""Models that are named by their files: `onnx:FILE` is short for `model: onnx` with `checkpoint: FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ONNX: Final = "onnx"
"""Name of the models whose `checkpoint` is a file with a graph."""
_PREFIXES: Final = (f"{ONNX}:",)


def split_model_file(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a job's entry of a model with the file in `checkpoint`, where files of models are looked for.

    Args:
        model: The entry, before it is checked; returned as it is if its model is no file, or names another checkpoint.
    """
    name = model.get("model")
    if not isinstance(name, str) or model.get("checkpoint"):
        return model
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return {**model, "model": prefix.removesuffix(":"), "checkpoint": name.removeprefix(prefix)}
    return model
