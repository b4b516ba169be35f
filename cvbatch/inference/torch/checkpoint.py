"""Read weight files in the forms that people save, and find out how many classes their head has."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cvbatch.errors import ModelError
from cvbatch.inference.torch import weight_formats
from cvbatch.inference.torch.torch_compat import unpickling_reason
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import BackgroundClass

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
"""Prefixes of heads that only training uses."""
_COUNTERS: Final = ("total_ops", "total_params", "num_batches_tracked", "n_averaged")
"""Suffixes of keys that no answer depends on: counters of profilers (thop), batch norms and averaged models."""
_REAL: Final = (".weight", ".bias", ".running_mean", ".running_var")
"""Suffixes of keys whose values are real numbers; integers are quantized, and their scale is unknown."""
_BACKGROUND = None
_UNPICKLING = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError)
"""Errors that `torch.load` raises for other files; the `pickle` documentation lists them."""
_DEEPEST: Final = 4
_AVERAGES: Final = ("ema", "average", "teacher", "swa")
"""Names of averaged weights, which are used only if there are no plain weights."""
_OPTIMIZER: Final = "param_groups"
_FEW: Final = 6

Shapes = Mapping[str, torch.Size]


class UnknownPickledClass:
    """Placeholder for any class or function that a checkpoint contains beside tensors; it does nothing."""

    name = ""
    """Name of the replaced class or function."""

    def __new__(cls, *_: Any, **__: Any) -> UnknownPickledClass:
        """Accept any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def __hash__(self) -> int:
        return id(self)

    def append(self, _: Any) -> None:
        """Ignore the item, in place of a list."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore the item, in place of a mapping."""


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Read a state dict from a file, at its top level or nested as under `state_dict`; code in the file is never run.

    Args:
        path: A file of `torch.save`, or safetensors.

    Raises:
        ModelError: The file holds no state dict, or the package for its format is missing.
    """
    return _best_state_dict(path, _load_checkpoint_file(path), ())


def read_matching_state(path: str, expected: Sequence[str]) -> dict[str, Tensor]:
    """Read the weights of a network from a checkpoint, with any nesting and any prefix of its keys.

    Args:
        path: A file of `torch.save`, or safetensors.
        expected: Keys of the network.

    Returns:
        The tensors under the network's keys, and further tensors beside them.

    Raises:
        ModelError: See `read_state_dict`; or the file holds two networks, or a number is not finite.
    """
    state = _best_state_dict(path, _load_checkpoint_file(path), expected)
    for key, value in state.items():
        if value.is_meta or (key.endswith(_REAL) and not value.is_floating_point()):
            kind = "no numbers" if value.is_meta else str(value.dtype).removeprefix("torch.")
            raise ModelError(f"{path}: expected weights of real numbers, but {key} holds {kind}: save them as float32")
        # a sum is cheaper than a check of each number, and is finite only if all numbers are
        if value.is_floating_point() and not math.isfinite(value.detach().sum(dtype=torch.float32)):
            raise ModelError(f"{path}: expected finite weights, but {key} has NaN or infinity: training has diverged")
    return state


def drop_auxiliary_heads(state: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Leave out counters and heads that only training uses, unless the module has them."""
    own = module.state_dict().keys()
    return {key: value for key, value in state.items() if key in own or not _is_ignorable_key(key)}


def fit_categories(spec: ModelSpec, shapes: Callable[[int], Shapes]) -> ModelSpec:
    """Decide whether the head of a checkpoint has an output for the background, as some tasks allow.

    Args:
        spec: Its categories are those of the job; None stands for a background that the job names.
        shapes: Returns all shapes of the network for a number of classes.

    Returns:
        The spec, with a background in front of its categories if the head has an additional output.

    Raises:
        ModelError: The number of outputs differs, or the file belongs to another network.
    """
    path = weights.fetch_for_spec(spec)
    state = read_matching_state(path, list(shapes(len(spec.categories))))
    actual = {key: value.shape for key, value in state.items()}
    has_background = spec.categories and spec.categories[0] is _BACKGROUND
    candidates = [spec.categories]
    with_background = (_BACKGROUND, *spec.categories)
    background = TASKS[spec.task].background
    if not has_background and background is BackgroundClass.ALWAYS:
        candidates = [with_background]
    elif not has_background and background is BackgroundClass.OPTIONAL:
        candidates.append(with_background)
    for categories in candidates:
        expected = shapes(len(categories))
        if _shapes_fit(actual, expected):
            unexpected = [key for key in actual if key not in expected and not _is_ignorable_key(key)]
            if unexpected:
                others = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
                raise ModelError(
                    f"{spec.weights_path} is not of {spec.name}, which has no {unexpected[0]}{others}: name its network"
                )
            return replace(spec, categories=categories)
    raise ModelError(_misfit_message(spec, actual, shapes(len(candidates[0])), shapes(len(candidates[0]) + 1)))


def _load_checkpoint_file(path: str) -> Any:
    if weight_formats.is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path}: damaged, or no safetensors file: {error}") from None
    weight_formats.check_is_torch(path)
    try:
        return _unpickle_safely(path)
    except _UNPICKLING as error:
        raise ModelError(f"{path}: expected a state dict as torch.save writes it; {unpickling_reason(error)}") from None


def _unpickle_safely(path: str) -> Any:
    """Load tensors and other harmless objects; everything else becomes a placeholder."""
    try:
        unknown_names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, *_UNPICKLING):  # an old format, whose names are only known while it is loaded
        unknown_names = []
    placeholders = [(type("Placeholder", (UnknownPickledClass,), {"name": name}), name) for name in unknown_names]
    with torch.serialization.safe_globals(placeholders):  # type: ignore[arg-type]  # pairs of class and name are allowed
        return torch.load(path, map_location="cpu", weights_only=True)


def _best_state_dict(path: str, content: Any, expected: Sequence[str]) -> dict[str, Tensor]:
    """The state dict in a checkpoint with most of the expected keys, renamed to these keys; the first one of equals."""
    if isinstance(content, UnknownPickledClass):
        raise ModelError(f"{path} is {_whole_module_advice(content)}")
    candidates = [
        ((-count, _is_average_name(name), _is_average_name(prefix)), f"{name}.{prefix}".strip("."), state)
        for name, tensors in _iter_state_dicts(content)
        for prefix, state, count in _without_prefix(tensors, expected)
    ]
    if not candidates:
        raise ModelError(f"{path}: {_describe_content(content)}")
    candidates.sort(key=lambda candidate: candidate[0])
    rank, name, best = candidates[0]
    for other_rank, other_name, state in candidates[1:]:
        if other_rank == rank and _are_different_models(best, state, expected):
            raise ModelError(
                f"{path} holds two networks of this kind, under {name or 'no name'} and {other_name or 'no name'}: "
                "save only the weights that you mean, with torch.save"
            )
    return best


def _are_different_models(first: Mapping[str, Tensor], second: Mapping[str, Tensor], expected: Sequence[str]) -> bool:
    """Whether two state dicts are both complete and have different weights."""
    keys = [key for key in expected if not key.endswith(_COUNTERS)]
    if not keys or not all(key in first and key in second for key in keys):
        return False
    return any(first[key].dtype != second[key].dtype or not _are_equal_states(first[key], second[key]) for key in keys)


def _are_equal_states(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and first.layout == second.layout == torch.strided and torch.equal(first, second)


def _iter_state_dicts(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping of names to tensors in a checkpoint, each with its path of keys."""
    if not isinstance(content, Mapping) or depth > _DEEPEST or _OPTIMIZER in content:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if any("." in key or value.dim() for key, value in tensors.items()):
        yield name, tensors
    for key, inner in content.items():
        yield from _iter_state_dicts(inner, f"{name}.{key}".lstrip("."), depth + 1)


def _without_prefix(
    state: Mapping[str, Tensor], expected: Sequence[str]
) -> Iterator[tuple[str, dict[str, Tensor], int]]:
    """For each possible prefix, shortest first: the prefix, the keys without it, and the number of expected keys."""
    samples = expected[:: max(1, len(expected) // _FEW)]
    prefixes = {key[: -len(end)] for end in samples for key in state if key.endswith(f".{end}")}
    for prefix in ("", *sorted(prefixes, key=lambda prefix: (len(prefix), prefix))):
        count = sum(f"{prefix}{key}" in state for key in expected)
        yield prefix, {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}, count


def _is_average_name(name: str) -> bool:
    return any(word in name.lower() for word in _AVERAGES)


def _describe_content(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"expected a state dict (names to tensors), got {type(content).__name__}"
    keys = ", ".join(str(key) for key in list(content)[:_FEW]) or "nothing in it"
    module = next((value for value in content.values() if isinstance(value, UnknownPickledClass)), None)
    if module is not None:
        return f"expected a state dict (names to tensors), got {_whole_module_advice(module)}, under {keys}"
    if _OPTIMIZER in content or any(isinstance(inner, Mapping) and _OPTIMIZER in inner for inner in content.values()):
        return f"expected a state dict of a network, got only the state of an optimizer ({keys})"
    return f"expected a state dict (names to tensors), got a mapping with {keys}"


def _whole_module_advice(module: UnknownPickledClass) -> str:
    return (
        f"a whole module or another object of a program ({module.name}), which is never run here: "
        "save its weights in that program, with torch.save(model.state_dict(), FILE)"
    )


def _shapes_fit(actual: Shapes, expected: Shapes) -> bool:
    return all(actual.get(key) == shape for key, shape in expected.items() if not key.endswith(_COUNTERS))


def _is_ignorable_key(key: str) -> bool:
    return key.startswith(_AUXILIARY) or key.endswith(_COUNTERS)


def _misfit_message(spec: ModelSpec, actual: Shapes, expected: Shapes, with_more_classes: Shapes) -> str:
    head = [key for key, shape in expected.items() if with_more_classes[key] != shape]
    body = {key: shape for key, shape in expected.items() if key not in head and not key.endswith(_COUNTERS)}
    wrong: list[Any] = [key for key, shape in body.items() if actual.get(key) != shape]
    if wrong:
        got = f"{wrong[0]} is {_format_shape(actual[wrong[0]])}" if wrong[0] in actual else f"{wrong[0]} is missing"
        return f"{spec.weights_path} is not of {spec.name}: {got}, expected {_format_shape(body[wrong[0]])}"
    key = next((key for key in head if actual.get(key) != expected[key]), "")
    got = _format_shape(actual[key]) if key in actual else "missing"
    hint = "with or without `__background__` in front"
    if TASKS[spec.task].background is BackgroundClass.NEVER:
        hint = "and if the first output is a background, set `background: true`"
    return (
        f"{spec.weights_path}: {len(spec.categories)} categories need a head {key} of "
        f"{_format_shape(expected[key])}, but it is {got}: give one name for each of its outputs, {hint}"
    )


def _format_shape(shape: torch.Size) -> str:
    return "×".join(str(length) for length in shape) or "a scalar"
