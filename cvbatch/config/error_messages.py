"""What pydantic finds wrong with a job, in plain words: one phrase for each place."""

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
_FLAGS: Final = {"source": "--source", "models": "--model", "output": "--output"}
_LONGEST: Final = 60


def explain_validation_errors(errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> Iterator[str]:
    """Say what is wrong where.

    Of a union pydantic reports every branch, and of a list the items as well as the list that lacks them;
    here each place speaks once, and not at all if something inside it does.

    Args:
        errors: From `ValidationError.errors()`.
        model: What the data should have been.
    """
    places: dict[KeyPath, list[Mapping[str, Any]]] = {}
    for item in errors:
        places.setdefault(_key_path_of(item["loc"], model), []).append(item)
    for place, items in places.items():
        if not any(len(inner) > len(place) and inner[: len(place)] == place for inner in places):
            yield _phrase_for_key(place, items, model)


def _phrase_for_key(place: KeyPath, items: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> str:
    name, first = ".".join(map(str, place)), items[0]
    match first["type"]:
        case "extra_forbidden":
            return f"{name}: unknown key; {_key_hint(str(place[-1]), known_keys_at(place[:-1], model))}"
        case "missing":
            flag = f" ({_FLAGS[name]} gives it)" if name in _FLAGS else ""
            return f"{name}: missing{flag}"
        case "value_error":
            return f"{name}: {first['ctx']['error']}"
    expected = " or ".join(dict.fromkeys(map(_expected_words, items)))
    got = repr(first["input"])
    return f"{name}: expected {expected}, got {got if len(got) <= _LONGEST else got[: _LONGEST - 1] + '…'}"


def _expected_words(item: Mapping[str, Any]) -> str:
    words = _EXPECTED.get(item["type"])
    if words is None:
        return str(item["msg"]).removeprefix("Input should be ")
    return words.format(**item.get("ctx", {}))


def _key_hint(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def _key_path_of(location: KeyPath, model: type[BaseModel]) -> KeyPath:
    """Keep keys and positions of the data; leave out the branches of unions that pydantic adds."""
    place: KeyPath = ()
    for part in location:
        known = known_keys_at(place, model)
        if isinstance(part, int) or part in known or (known and part == location[-1]):
            place = (*place, part)
    return place


def known_keys_at(place: KeyPath, model: type[BaseModel]) -> list[str]:
    """The keys that a section of the data may have; empty where it is no section."""
    at: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field.annotation for name, field in at.model_fields.items()}
        at = _section_model(fields.get(part))
        if at is None:
            return []
    return [field.alias or name for name, field in at.model_fields.items()]


def _section_model(annotation: Any) -> type[BaseModel] | None:
    """The model behind a field, also if it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _section_model(inner))), None)
