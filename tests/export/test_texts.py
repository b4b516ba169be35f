"""Texts are joined by image, and what XML cannot have is replaced."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa

from cvbatch.export.texts import concatenate_by_image, rounded_to_text, texts_to_xml, write_texts


def test_elements_are_joined_by_image() -> None:
    joined = concatenate_by_image(pa.array(["a", "b", "c"]), np.array([0, 2, 2, 3]), ";")
    assert joined.to_pylist() == ["a;b", "", "c"]
    assert concatenate_by_image(pa.array([], pa.string()), np.array([0, 0])).to_pylist() == [""]


def test_texts_come_back_from_xml() -> None:
    texts = ['<a href="x">&amp;\'</a>', "Größe, 犬\n2", "plain", "\x01"]
    escaped = texts_to_xml(pa.array(texts)).to_pylist()
    read = [ElementTree.fromstring(f'<a b="{text}">{text}</a>') for text in escaped]
    assert [element.get("b") for element in read] == [*texts[:3], "?"]
    assert [element.text for element in read] == [*texts[:3], "?"]


def test_rounded_numbers_have_no_zeros_at_the_end() -> None:
    numbers = np.array([1.0, 0.1234567, -0.00001, 1e-12, 4000.125], np.float64)
    assert rounded_to_text(numbers, 3).to_pylist() == ["1", "0.123", "0", "0", "4000.125"]


def test_slices_and_empty_texts_are_written() -> None:
    file = io.BytesIO()
    texts = pa.array(["", "a", "bc", "d"])
    write_texts(file, texts.slice(1, 2), "; ", first=False)
    write_texts(file, texts.slice(2))
    write_texts(file, pa.array([""]))
    write_texts(file, texts.slice(0, 0))
    assert file.getvalue() == b"; a; bcbcd"
