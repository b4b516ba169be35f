"""Text made by Arrow is the JSON that Python would write."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.export.json_text import (
    arrays_to_json,
    encode_json,
    objects_to_json,
    texts_to_json,
)
from cvbatch.export.texts import numbers_to_text, write_texts

STRANGE = ['a "quoted" one', "back\\slash", "Größe, breit", "犬\u2028", "tab\t\x01", "", "plain"]


def test_texts_are_escaped() -> None:
    assert [json.loads(text) for text in texts_to_json(pa.array(STRANGE)).to_pylist()] == STRANGE


def test_floats_come_back_as_they_were() -> None:
    numbers = np.random.default_rng(0).normal(0, 1000, 1000).astype(np.float32)
    numbers[:4] = [0, 1e-30, 1e30, -0.5]
    read = [json.loads(text) for text in numbers_to_text(numbers).to_pylist()]
    assert np.array_equal(np.array(read, np.float32), numbers)


def test_objects_are_valid_and_follow_each_other() -> None:
    texts = objects_to_json(
        {"id": numbers_to_text(np.arange(3)), 'a"b': "null", "box": arrays_to_json([numbers_to_text(np.ones(3))] * 2)}
    )
    file = io.BytesIO(b"[")
    file.seek(1)
    write_texts(file, texts.slice(0, 0), ",\n", first=True)
    write_texts(file, texts.slice(1, 1), ",\n", first=True)
    write_texts(file, texts.slice(0, 1), ",\n", first=False)
    write_texts(file, texts.slice(2), ",\n", first=False)
    file.write(b"]")
    assert json.loads(file.getvalue()) == [{"id": i, 'a"b': None, "box": [1, 1]} for i in (1, 0, 2)]


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json(float("nan"))
