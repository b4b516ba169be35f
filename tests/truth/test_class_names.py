"""Classes of the truth are found by name, by WordNet id or by number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cvbatch.errors import UsageError
from cvbatch.models.catalog import category_set
from cvbatch.truth.class_names import number_classes
from tests.samples import spec

MODEL = replace(spec("pets"), categories=("cat", None, "Guinea pig", "cat", "dog"))
IMAGENET = replace(spec("labels"), categories=category_set("imagenet-1k"))


def test_spelling_does_not_matter_and_equal_names_are_one_class() -> None:
    numbers = number_classes(["dog", "guinea_pig", "CAT"], [1, 1, 1], MODEL, "truth")
    assert numbers.label_ids.tolist() == [4, 2, 0]
    assert numbers.same_as.tolist() == [0, 1, 2, 0, 4]
    assert numbers.names == ("cat", "label id 1", "Guinea pig", "cat (3)", "dog")
    assert numbers.notes == ("classes of pets with the same name count as one: cat",)


def test_numbers_are_label_ids_unless_they_are_names() -> None:
    numbers = number_classes(["3", "0"], [1, 1], MODEL, "truth")
    assert numbers.label_ids.tolist() == [3, 0]
    assert numbers.same_as.tolist() == [0, 1, 2, 3, 4]
    assert "by label id" in numbers.notes[0]
    digits = replace(MODEL, categories=("1", "0"))
    assert number_classes(["0", "1"], [1, 1], digits, "truth").label_ids.tolist() == [1, 0]


def test_wordnet_ids_are_classes_of_imagenet_with_or_without_a_name() -> None:
    numbers = number_classes(["n02012849", "n03126707_crane"], [1, 1], IMAGENET, "truth")
    assert [IMAGENET.categories[label] for label in numbers.label_ids] == ["crane bird", "crane"]
    assert numbers.same_as.tolist() == list(range(1000))
    assert numbers.notes == ("classes are matched by WordNet id",)


def test_a_class_that_the_model_does_not_know_is_said_and_stays() -> None:
    numbers = number_classes(["dog", "newt"], [5, 7], MODEL, "truth")
    assert numbers.label_ids.tolist() == [4, 5]
    assert numbers.names[5] == "newt"
    assert "1 class of the truth unknown to pets, so that every answer is wrong: newt (7)" in numbers.notes


def test_without_any_known_class_one_line_shows_both_sides() -> None:
    with pytest.raises(UsageError, match=r"truth: expected classes of pets, such as cat, Guinea pig.*; got newt, toad"):
        number_classes(["newt", "toad"], [1, 1], MODEL, "truth")
