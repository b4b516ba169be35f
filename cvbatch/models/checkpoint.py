"""Read weight files, and find out how many classes their head has."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cvbatch.errors import ModelError
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
"""Heads that only training uses."""
_BACKGROUND = None
_UNPICKLING = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError)
"""What `torch.load` raises on other files; the `pickle` documentation warns of all of these."""

Shapes = Mapping[str, torch.Size]


def read(path: str) -> dict[str, Tensor]:
    """Read a state dict; code in the file is never run.

    Args:
        path: A file of `torch.save`, or `.safetensors`.

    Raises:
        ModelError: Not a state dict, or the package for its format is missing.
    """
    if path.endswith(".safetensors"):
        try:
            load_file = importlib.import_module("safetensors.torch").load_file
        except ImportError:
            raise ModelError(f"{path}: reading it needs: pip install 'cvbatch[safetensors]'") from None
        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except _UNPICKLING as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"{path}: expected a state dict as torch.save writes it; {reason}") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: expected a state dict (names to tensors), got {type(state).__name__}")
    return state


def without_auxiliary(state: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Leave out the heads that only training uses, unless the module has them."""
    own = module.state_dict().keys()
    return {key: value for key, value in state.items() if key in own or not key.startswith(_AUXILIARY)}


def fit_categories(spec: ModelSpec, shapes: Callable[[int], Shapes]) -> ModelSpec:
    """Decide whether the categories of a checkpoint count the background.

    Args:
        spec: With the names as given; None where the background is named.
        shapes: All shapes of the network for a number of classes.

    Returns:
        The spec, with a background in front of its categories if the head has one output more.

    Raises:
        ModelError: The head has another number of outputs, or the file is of another network.
    """
    found = {key: value.shape for key, value in read(weights.here(spec)).items()}
    named = spec.categories and spec.categories[0] is _BACKGROUND
    candidates = [spec.categories]
    if not named:
        with_background = (_BACKGROUND, *spec.categories)
        candidates = [with_background] if spec.task == "detection" else [spec.categories, with_background]
    for categories in candidates:
        if _fits(found, shapes(len(categories))):
            return replace(spec, categories=categories)
    raise ModelError(_misfit(spec, found, shapes(len(candidates[0])), shapes(len(candidates[0]) + 1)))


def _fits(found: Shapes, expected: Shapes) -> bool:
    return all(found.get(key) == shape for key, shape in expected.items() if not _is_counter(key))


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _misfit(spec: ModelSpec, found: Shapes, expected: Shapes, other: Shapes) -> str:
    head = {key for key, shape in expected.items() if other[key] != shape}
    body = {key: shape for key, shape in expected.items() if key not in head and not _is_counter(key)}
    wrong: list[Any] = [key for key, shape in body.items() if found.get(key) != shape]
    if wrong:
        got = f"{wrong[0]} is {_shape(found[wrong[0]])}" if wrong[0] in found else f"{wrong[0]} is missing"
        return f"{spec.weights_path} is not of {spec.name}: {got}, expected {_shape(body[wrong[0]])}"
    key = next((key for key in head if found.get(key) != expected[key]), "")
    got = _shape(found[key]) if key in found else "missing"
    return (
        f"{spec.weights_path}: {len(spec.categories)} categories ask for a head {key} of {_shape(expected[key])}, "
        f"but it is {got}: give one name for each of its outputs, with or without `__background__` in front"
    )


def _shape(shape: torch.Size) -> str:
    return "×".join(str(length) for length in shape) or "a scalar"
