"""Options that are laid over a job file: nested values of flags, and `dotted.path=YAML value`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cvbatch.errors import JobError


def merge_nested(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested values over others."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge_nested(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set the value that a `dotted.path=YAML value` names.

    Raises:
        JobError: If it is not of this form, or leads nowhere.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise JobError(f"--set {override}: expected KEY=VALUE, such as compute.precision=fp32")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise JobError(f"--set {override}: {text!r} is not a YAML value") from None
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = _child_node(node, part, override)
    if isinstance(node, list):
        _child_node(node, last, override)
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise JobError(f"--set {override}: {'.'.join(parents)} is {node!r}, not a mapping or a list")


def _child_node(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        if part.isdecimal() and int(part) < len(node):
            return node[int(part)]
        raise JobError(f"--set {override}: expected a list position below {len(node)}, got {part!r}")
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = {}
        return node[part]
    raise JobError(f"--set {override}: nothing lies below {part!r}")
