"""Pydantic's validation errors of a job as plain text: one phrase for each key."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

KeyPath = tuple[str | int, ...]

_EXPECTED: Final = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_too_short": "some text",
    "tuple_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "at least {min_length}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "invalid_key": "keys that are text",
}
_MISSING_HINTS: Final = {
    "source": "set it with --source",
    "models": "set it with --model or --task",
    "models.model": "name one, or give task: for the embedded model of that task",
    "output": "set it with --output",
}
"""What to do about a missing key, by its path without list positions."""
_MAX_VALUE_LENGTH: Final = 60


def explain_validation_errors(errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> Iterator[str]:
    """Explain each invalid key in one phrase.

    Pydantic reports every branch of a union, and both a list and its items. Here each key has one phrase, and none if
    a key inside it has one.

    Args:
        errors: From `ValidationError.errors()`.
        model: The expected model.
    """
    errors_by_key: dict[KeyPath, list[Mapping[str, Any]]] = {}
    for error in errors:
        errors_by_key.setdefault(_key_path_of(error["loc"], model), []).append(error)
    for path, key_errors in errors_by_key.items():
        if not any(len(inner) > len(path) and inner[: len(path)] == path for inner in errors_by_key):
            yield _phrase_for_key(path, key_errors, model)


def _phrase_for_key(path: KeyPath, errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> str:
    name, first = ".".join(map(str, path)), errors[0]
    match first["type"]:
        case "extra_forbidden":
            return f"{name}: unknown key; {_key_hint(str(path[-1]), known_keys_at(path[:-1], model))}"
        case "missing":
            hint = _MISSING_HINTS.get(".".join(str(part) for part in path if not isinstance(part, int)))
            return f"{name}: missing ({hint})" if hint else f"{name}: missing"
        case "value_error":
            return f"{name}: {first['ctx']['error']}"
    expected = " or ".join(dict.fromkeys(map(_expected_words, errors)))
    got = repr(first["input"])
    if len(got) > _MAX_VALUE_LENGTH:
        got = got[: _MAX_VALUE_LENGTH - 1] + "…"
    return f"{name}: expected {expected}, got {got}"


def _expected_words(error: Mapping[str, Any]) -> str:
    words = _EXPECTED.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Input should be ")
    return words.format(**error.get("ctx", {}))


def _key_hint(key: str, known_keys: Sequence[str]) -> str:
    matches = difflib.get_close_matches(key, known_keys, n=1, cutoff=0.5)
    return f"did you mean {matches[0]!r}?" if matches else f"known keys: {', '.join(known_keys)}"


def _key_path_of(location: KeyPath, model: type[BaseModel]) -> KeyPath:
    """Path of keys and list indices in the data, without the union branches that pydantic adds."""
    path: KeyPath = ()
    for part in location:
        known_keys = known_keys_at(path, model)
        if isinstance(part, int) or part in known_keys or (known_keys and part == location[-1]):
            path = (*path, part)
    return path


def known_keys_at(path: KeyPath, model: type[BaseModel]) -> list[str]:
    """Valid keys of the section at a path; empty if the path is not a section."""
    section: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
        section = _section_model(fields.get(part))
        if section is None:
            return []
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_model(annotation: Any) -> type[BaseModel] | None:
    """The model class in a field's annotation, such as a list of models; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in typing.get_args(annotation) if (model := _section_model(inner))), None)
