"""Options that override a job file: nested values of flags, and `dotted.path=YAML value`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cvbatch.errors import JobError


def merge_nested(base: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested values into others; on conflict, `overrides` wins."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = merge_nested(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def apply_override(data: dict[str, Any], override: str) -> None:
    """Apply a `dotted.path=YAML value` to the data of a job, in place.

    Raises:
        JobError: If the override has a different form, or its path does not exist.
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
    raise JobError(f"--set {override}: there is no section that could have the key {part!r}")
