"""Run the operations of a program without torch's loader; `cvbatch.models.program.archive` says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from cvbatch.errors import ModelError
from cvbatch.models.program.archive import ProgramArchive
from cvbatch.models.program.facts import DTYPES, user_inputs, user_outputs
from cvbatch.models.program.operations import GRADIENT_SWITCH, is_check, python_function, torch_names

_KEYWORD: Final = 2
"""Kind of an argument in the schema."""
_MEMORY: Final = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_PLAIN: Final = (
    "as_int",
    "as_ints",
    "as_float",
    "as_floats",
    "as_string",
    "as_strings",
    "as_bool",
    "as_bools",
    "as_int_lists",
)
_LENGTHS: Final = ("as_sym_int", "as_sym_bool", "as_sym_float")


@dataclass(frozen=True, slots=True)
class _Value:
    """An argument that an earlier operation has computed."""

    name: str


@dataclass(frozen=True, slots=True)
class _Step:
    function: Any
    positional: list[Any]
    keywords: dict[str, Any]
    outputs: list[Any]
    """Names, or a list of names, or None where nobody reads it."""
    last_uses: list[str]
    """Values that are dropped after this step."""


class ProgramRunner:
    """A loaded program.

    Args:
        archive: The open file; it may be closed afterwards.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: The installed torch lacks an operation, or the file is damaged.
    """

    def __init__(self, archive: ProgramArchive, device: str) -> None:
        self._device, self._name = torch.device(device), archive.name
        module = archive.model["graph_module"]
        tensors = {name: _make_tensor(meta, data, device) for name, meta, data in archive.iter_tensors()}
        self._constants = _bind_weights(module, tensors, archive.name)
        self.inputs, self.outputs = user_inputs(module), user_outputs(module)
        self._steps = self._plan(module["graph"], {*self._constants, *self.outputs})

    def __call__(self, *images: Tensor) -> list[Any]:
        """Run it.

        Args:
            images: One tensor for each input, on the device.

        Returns:
            The outputs in order; None for one that is no tensor.
        """
        values: dict[str, Any] = {**self._constants, **dict(zip(self.inputs, images, strict=True))}
        self._run(self._steps, values)
        return [values.get(name) for name in self.outputs]

    def _run(self, steps: Sequence[_Step], values: dict[str, Any]) -> None:
        for step in steps:
            positional = [_filled(value, values) for value in step.positional]
            keywords = {name: _filled(value, values) for name, value in step.keywords.items()}
            _store(step.outputs, step.function(*positional, **keywords), values)
            for name in step.last_uses:
                values.pop(name, None)

    def _plan(self, graph: Mapping[str, Any], kept: set[str]) -> list[_Step]:
        steps = [self._step(node) for node in graph["nodes"] if not is_check(str(node["target"]))]
        seen = set(kept)
        for step in reversed(steps):
            names = {name for value in (*step.positional, *step.keywords.values()) for name in _names_in(value)}
            names |= {name for output in step.outputs for name in _flat(output)}
            step.last_uses.extend(sorted(names - seen))
            seen |= names
        return steps

    def _step(self, node: Mapping[str, Any]) -> _Step:
        target = str(node["target"])
        outputs = [_output_names(output) for output in node["outputs"]]
        if target == GRADIENT_SWITCH:
            return self._inner_graph(node, outputs)
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for entry in node["inputs"]:
            value = self._argument(entry["arg"])
            if entry.get("kind") == _KEYWORD:
                keywords[str(entry["name"])] = value
            else:
                positional.append(value)
        return _Step(self._function(target), positional, keywords, outputs, [])

    def _inner_graph(self, node: Mapping[str, Any], outputs: list[Any]) -> _Step:
        """A part that is a graph of its own: its steps run with values of its own."""
        _, inner, *arguments = (entry["arg"] for entry in node["inputs"])
        graph = inner["as_graph"]["graph"]
        names = [str(_output_names(argument)) for argument in graph["inputs"]]
        results = [str(_output_names(argument)) for argument in graph["outputs"]]
        steps = self._plan(graph, set(results))

        def run(*given: Any) -> Any:
            values = dict(zip(names, given, strict=True))
            self._run(steps, values)
            found = [values[name] for name in results]
            return found if len(found) > 1 or isinstance(outputs[0], list) else found[0]

        return _Step(run, [self._argument(argument) for argument in arguments], {}, outputs, [])

    def _function(self, target: str) -> Any:
        if (function := python_function(target)) is not None:
            return function
        names = torch_names(target)
        operation: Any = torch.ops
        for name in names or ("",):
            operation = getattr(operation, name, None)
        if operation is None:
            raise ModelError(
                f"{self._name}: the installed torch {torch.__version__} has no {target[:80]}: export it again"
            )
        return operation

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        """A value, or where to find it when the program runs."""
        ((kind, value),) = argument.items()
        if kind in _PLAIN:
            return value
        if kind in _LENGTHS or kind == "as_tensor":
            return _length_or_value(value)
        if kind in ("as_tensors", "as_optional_tensors") or kind.removesuffix("s") in _LENGTHS:
            return [_length_or_value(item.get("as_tensor", item)) for item in value]
        match kind:
            case "as_none":
                return None
            case "as_optional_tensor":
                return _length_or_value(value.get("as_tensor", value))
            case "as_scalar_type":
                return getattr(torch, DTYPES[value])
            case "as_memory_format":
                return _MEMORY[value]
            case "as_layout":
                return torch.strided
            case "as_device":
                return self._device
        raise ModelError(f"{self._name}: an argument of the kind {kind} is not supported: export it to onnx:")


def _length_or_value(value: Mapping[str, Any]) -> Any:
    name = value.get("name", value.get("as_name"))
    if name is not None:
        return _Value(str(name))
    return next((value[key] for key in ("as_int", "as_bool", "as_float") if key in value), None)


def _output_names(output: Mapping[str, Any]) -> Any:
    (value,) = output.values()
    if isinstance(value, list):
        return [_output_names({"item": item.get("as_tensor", item)}) for item in value]
    return value.get("name", value.get("as_name")) if isinstance(value, Mapping) else None


def _store(names: Sequence[Any], result: Any, values: dict[str, Any]) -> None:
    if len(names) == 1 and not isinstance(names[0], list):
        values[names[0]] = result
        return
    results = [result] if len(names) == 1 else result
    for name, item in zip(names, results, strict=True):
        if isinstance(name, list):
            _store(name, item if len(name) != 1 else item[0], values)
        elif name is not None:
            values[name] = item


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, _Value):
        return values[value.name]
    return [_filled(item, values) for item in value] if isinstance(value, list) else value


def _names_in(value: Any) -> set[str]:
    if isinstance(value, _Value):
        return {value.name}
    return {name for item in value for name in _names_in(item)} if isinstance(value, list) else set()


def _flat(names: Any) -> list[str]:
    if isinstance(names, list):
        return [name for item in names for name in _flat(item)]
    return [] if names is None else [names]


def _make_tensor(meta: Mapping[str, Any], data: bytes, device: str) -> Tensor:
    kind = getattr(torch, DTYPES[meta["dtype"]])
    sizes, strides = ([int(length["as_int"]) for length in meta[key]] for key in ("sizes", "strides"))
    if not data:
        return torch.zeros(sizes, dtype=kind, device=device)
    numbers = torch.frombuffer(bytearray(data), dtype=kind)
    return numbers.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"])).to(device)


def _bind_weights(module: Mapping[str, Any], tensors: Mapping[str, Tensor], title: str) -> dict[str, Any]:
    """The values that are known before the program runs, by their names in the graph."""
    values: dict[str, Any] = {}
    for spec in module["signature"]["input_specs"]:
        ((kind, entry),) = spec.items()
        if kind == "user_input":
            continue
        stored = entry.get("parameter_name", entry.get("buffer_name", entry.get("tensor_constant_name")))
        if stored not in tensors:
            raise ModelError(f"{title}: it has no numbers for {stored}: get it again")
        values[str(entry["arg"]["name"])] = tensors[stored]
    return values
