"""WordNet ids of ImageNet's classes, by which its folders are called: `n01443537` is the goldfish."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from cvbatch.models.catalog import category_set

WORDNET_FILE: Final = Path(__file__).with_name("wordnet_ids.json")


@cache
def wordnet_ids() -> Mapping[str, Sequence[str]]:
    """WordNet id of each label id, by the name of the categories; `imagenet-1k` as in timm's `imagenet_synsets.txt`."""
    ids: dict[str, list[str]] = json.loads(WORDNET_FILE.read_text(encoding="utf-8"))
    return ids


def find_wordnet_ids(categories: Sequence[str | None]) -> Sequence[str]:
    """WordNet ids of a model's label ids, by its categories; empty if they are not ImageNet's."""
    matches = (ids for name, ids in wordnet_ids().items() if category_set(name) == tuple(categories))
    return next(matches, ())
