"""Read weight files as people save them, and find out how many classes their head has."""

from __future__ import annotations

import importlib
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from cvbatch.errors import ModelError
from cvbatch.inference.torch import weight_formats
from cvbatch.inference.torch.torch_compat import unpickling_reason
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import BackgroundClass

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
"""Heads that only training uses."""
_COUNTERS: Final = ("total_ops", "total_params", "num_batches_tracked", "n_averaged")
"""Ends of keys that no answer depends on: those of profilers (thop), batch norms and averaged models."""
_REAL: Final = (".weight", ".bias", ".running_mean", ".running_var")
"""Ends of keys whose values are real numbers; whole ones are quantized, in a way that is not kept here."""
_BACKGROUND = None
_UNPICKLING = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError)
"""What `torch.load` raises on other files; the `pickle` documentation warns of all of these."""
_DEEPEST: Final = 4
_AVERAGES: Final = ("ema", "average", "teacher", "swa")
"""Parts of a checkpoint that are taken only where there are no plain weights."""
_OPTIMIZER: Final = "param_groups"
_FEW: Final = 6

Shapes = Mapping[str, torch.Size]


class UnknownPickledClass:
    """Stands for whatever class or function a checkpoint names beside its tensors; it does nothing."""

    name = ""
    """Of what it stands for."""

    def __new__(cls, *_: Any, **__: Any) -> UnknownPickledClass:
        """Made of anything."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""

    def __hash__(self) -> int:
        return id(self)

    def append(self, _: Any) -> None:
        """A list's."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """A mapping's."""


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Read a state dict that lies alone in a file, or under `state_dict`; code in the file is never run.

    Args:
        path: A file of `torch.save`, or safetensors.

    Raises:
        ModelError: Not a state dict, or the package for its format is missing.
    """
    return _best_state_dict(path, _load_checkpoint_file(path), ())


def read_matching_state(path: str, expected: Sequence[str]) -> dict[str, Tensor]:
    """Read the weights of a network out of a checkpoint, however they were wrapped and their keys prefixed.

    Args:
        path: A file of `torch.save`, or safetensors.
        expected: Keys of the network.

    Returns:
        Under the network's keys, with what else stands beside them.

    Raises:
        ModelError: As `read_state_dict`, there are two networks in it, or a number is not finite.
    """
    state = _best_state_dict(path, _load_checkpoint_file(path), expected)
    for key, value in state.items():
        if value.is_meta or (key.endswith(_REAL) and not value.is_floating_point()):
            what = "no numbers" if value.is_meta else str(value.dtype).removeprefix("torch.")
            raise ModelError(f"{path}: expected weights of real numbers, but {key} holds {what}: save them as float32")
        # a sum is cheaper than a look at each number, and finite only if all are
        if value.is_floating_point() and not math.isfinite(value.detach().sum(dtype=torch.float32)):
            raise ModelError(f"{path}: expected finite weights, but {key} has NaN or infinity: training went wrong")
    return state


def drop_auxiliary_heads(state: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Leave out the heads that only training uses, unless the module has them, and what profilers counted."""
    own = module.state_dict().keys()
    return {key: value for key, value in state.items() if key in own or not _is_ignorable_key(key)}


def fit_categories(spec: ModelSpec, shapes: Callable[[int], Shapes]) -> ModelSpec:
    """Decide whether the categories of a checkpoint count the background, which only boxes and masks have.

    Args:
        spec: With the names as given; None where the background is named.
        shapes: All shapes of the network for a number of classes.

    Returns:
        The spec, with a background in front of its categories if the head has one output more.

    Raises:
        ModelError: The head has another number of outputs, or the file is of another network.
    """
    path = weights.fetch_for_spec(spec)
    state = read_matching_state(path, list(shapes(len(spec.categories))))
    found = {key: value.shape for key, value in state.items()}
    named = spec.categories and spec.categories[0] is _BACKGROUND
    candidates = [spec.categories]
    with_background = (_BACKGROUND, *spec.categories)
    background = TASKS[spec.task].background
    if not named and background is BackgroundClass.ALWAYS:
        candidates = [with_background]
    elif not named and background is BackgroundClass.OPTIONAL:
        candidates.append(with_background)
    for categories in candidates:
        expected = shapes(len(categories))
        if _shapes_fit(found, expected):
            more = [key for key in found if key not in expected and not _is_ignorable_key(key)]
            if more:
                rest = f" and {len(more) - 1} more" if len(more) > 1 else ""
                raise ModelError(
                    f"{spec.weights_path} is not of {spec.name}, which has no {more[0]}{rest}: name its network"
                )
            return replace(spec, categories=categories)
    raise ModelError(_misfit_message(spec, found, shapes(len(candidates[0])), shapes(len(candidates[0]) + 1)))


def _load_checkpoint_file(path: str) -> Any:
    if weight_formats.is_safetensors(path):
        try:
            load_file = importlib.import_module("safetensors.torch").load_file
            failure = importlib.import_module("safetensors").SafetensorError
        except ImportError:
            raise ModelError(f"{path}: reading it needs: pip install 'cvbatch[safetensors]'") from None
        try:
            return load_file(path)
        except failure as error:
            raise ModelError(f"{path}: damaged, or no safetensors file: {error}") from None
    weight_formats.check_is_torch(path)
    try:
        return _unpickle_safely(path)
    except _UNPICKLING as error:
        raise ModelError(f"{path}: expected a state dict as torch.save writes it; {unpickling_reason(error)}") from None


def _unpickle_safely(path: str) -> Any:
    """Load what is known to be harmless; all other names stand for nothing."""
    try:
        strangers = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, *_UNPICKLING):  # of another version, in which the names are found on the way
        strangers = []
    stand_ins = [(type("Stranger", (UnknownPickledClass,), {"name": name}), name) for name in strangers]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]  # pairs of class and name are allowed
        return torch.load(path, map_location="cpu", weights_only=True)


def _best_state_dict(path: str, content: Any, expected: Sequence[str]) -> dict[str, Tensor]:
    """The state dict in a checkpoint with the most of the expected keys, under these keys; of equals the first one."""
    if isinstance(content, UnknownPickledClass):
        raise ModelError(f"{path} is {_whole_module_advice(content)}")
    found = [
        ((-count, _is_average_name(name), _is_average_name(prefix)), f"{name}.{prefix}".strip("."), state)
        for name, whole in _iter_state_dicts(content)
        for prefix, state, count in _without_prefix(whole, expected)
    ]
    if not found:
        raise ModelError(f"{path}: {_describe_content(content)}")
    found.sort(key=lambda each: each[0])
    rank, name, best = found[0]
    for other_rank, other, state in found[1:]:
        if other_rank == rank and _are_different_models(best, state, expected):
            raise ModelError(
                f"{path} holds two networks of this kind, under {name or 'no name'} and {other or 'no name'}: save the "
                "weights that are meant alone, by torch.save"
            )
    return best


def _are_different_models(one: Mapping[str, Tensor], other: Mapping[str, Tensor], expected: Sequence[str]) -> bool:
    """Whether two state dicts are both whole, and not the same weights."""
    keys = [key for key in expected if not key.endswith(_COUNTERS)]
    if not keys or not all(key in one and key in other for key in keys):
        return False
    return any(one[key].dtype != other[key].dtype or not _are_equal_states(one[key], other[key]) for key in keys)


def _are_equal_states(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.layout == other.layout == torch.strided and torch.equal(one, other)


def _iter_state_dicts(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping of names to tensors in a checkpoint, with the keys that lead there."""
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
    """A state dict without each prefix that makes keys the expected ones, and how many these are; short ones first."""
    some = expected[:: max(1, len(expected) // _FEW)]
    prefixes = {key[: -len(end)] for end in some for key in state if key.endswith(f".{end}")}
    for prefix in ("", *sorted(prefixes, key=lambda each: (len(each), each))):
        count = sum(f"{prefix}{key}" in state for key in expected)
        yield prefix, {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}, count


def _is_average_name(name: str) -> bool:
    return any(word in name.lower() for word in _AVERAGES)


def _describe_content(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"expected a state dict (names to tensors), got {type(content).__name__}"
    keys = ", ".join(str(key) for key in list(content)[:_FEW]) or "nothing in it"
    whole = next((value for value in content.values() if isinstance(value, UnknownPickledClass)), None)
    if whole is not None:
        return f"expected a state dict (names to tensors), got {_whole_module_advice(whole)}, under {keys}"
    if _OPTIMIZER in content or any(isinstance(inner, Mapping) and _OPTIMIZER in inner for inner in content.values()):
        return f"expected a state dict of a network, got only the state of an optimizer ({keys})"
    return f"expected a state dict (names to tensors), got a mapping with {keys}"


def _whole_module_advice(module: UnknownPickledClass) -> str:
    return (
        f"a whole module or another object of a program ({module.name}), which is never run here: "
        "save its weights where it was made, by torch.save(model.state_dict(), FILE)"
    )


def _shapes_fit(found: Shapes, expected: Shapes) -> bool:
    return all(found.get(key) == shape for key, shape in expected.items() if not key.endswith(_COUNTERS))


def _is_ignorable_key(key: str) -> bool:
    return key.startswith(_AUXILIARY) or key.endswith(_COUNTERS)


def _misfit_message(spec: ModelSpec, found: Shapes, expected: Shapes, other: Shapes) -> str:
    head = [key for key, shape in expected.items() if other[key] != shape]
    body = {key: shape for key, shape in expected.items() if key not in head and not key.endswith(_COUNTERS)}
    wrong: list[Any] = [key for key, shape in body.items() if found.get(key) != shape]
    if wrong:
        got = f"{wrong[0]} is {_format_shape(found[wrong[0]])}" if wrong[0] in found else f"{wrong[0]} is missing"
        return f"{spec.weights_path} is not of {spec.name}: {got}, expected {_format_shape(body[wrong[0]])}"
    key = next((key for key in head if found.get(key) != expected[key]), "")
    got = _format_shape(found[key]) if key in found else "missing"
    hint = "with or without `__background__` in front"
    if TASKS[spec.task].background is BackgroundClass.NEVER:
        hint = "and where the first of them is a background, say `background: true`"
    return (
        f"{spec.weights_path}: {len(spec.categories)} categories ask for a head {key} of "
        f"{_format_shape(expected[key])}, but it is {got}: give one name for each of its outputs, {hint}"
    )


def _format_shape(shape: torch.Size) -> str:
    return "×".join(str(length) for length in shape) or "a scalar"
