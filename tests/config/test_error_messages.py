"""Phrases for pydantic's findings, on models of their own."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cvbatch.config.error_messages import explain_validation_errors, known_keys_at


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int | None = None
    kind: str = Field(default="x", alias="as")


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: tuple[Inner, ...] = ()
    free: dict[str, int] = {}


def phrases(**data: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(data)
    return list(explain_validation_errors(caught.value.errors(), Outer))


def test_keys_are_named_as_in_the_file() -> None:
    assert known_keys_at((), Outer) == ["parts", "free"]
    assert known_keys_at(("parts", 0), Outer) == ["size", "as"]
    assert known_keys_at(("free",), Outer) == []
    assert known_keys_at(("parts", 0, "size"), Outer) == []


def test_errors_of_items_replace_the_error_of_their_list() -> None:
    assert phrases(parts=[{}, {"aS": "x"}, {"size": []}]) == [
        "parts.1.aS: unknown key; did you mean 'as'?",
        "parts.2.size: expected a whole number, got []",
    ]


def test_free_mappings_are_named_as_a_whole() -> None:
    assert phrases(free={"a": []}) == ["free: expected a whole number, got []"]
