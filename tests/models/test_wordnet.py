"""WordNet ids are those of ImageNet's classes, in the order of the label ids."""

from __future__ import annotations

from cvbatch.models.catalog import category_set
from cvbatch.models.wordnet import find_wordnet_ids, wordnet_ids


def test_each_class_of_imagenet_has_an_id() -> None:
    names, ids = category_set("imagenet-1k"), find_wordnet_ids(category_set("imagenet-1k"))
    assert len(names) == len(set(ids)) == 1000
    assert list(ids) == sorted(ids), "ImageNet numbers its classes in this order"
    known = {"n01440764": "tench", "n01443537": "goldfish", "n02119789": "kit fox", "n15075141": "toilet tissue"}
    assert {wordnet_id: names[ids.index(wordnet_id)] for wordnet_id in known} == known


def test_other_categories_have_none() -> None:
    assert list(find_wordnet_ids(("cat", "dog"))) == []
    assert set(wordnet_ids()) == {"imagenet-1k"}
