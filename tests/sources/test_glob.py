"""Patterns match like the standard library's `glob` if that one terminates."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from cvbatch.sources.glob import GlobPattern

FILES = ["a.jpg", "b.png", "x/a.jpg", "x/y/a.jpg", "x/y/z/b.jpg", "y/a.jpg", "y/x/y/c.jpg"]


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "**/*",
        "**/*.jpg",
        "**/y/*.jpg",
        "x/**",
        "x/**/a.jpg",
        "**/x/**/*.jpg",
        "*/**/[bc].jpg",
        "**/y/**",
        "**/**",
    ],
)
def test_the_same_as_glob(tmp_path: Path, pattern: str) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    result = set(glob.iglob(pattern, root_dir=tmp_path, recursive=True))
    expected = sorted(name for name in result if (tmp_path / name).is_file())
    assert [name for name in FILES if matched(pattern, name)] == sorted(expected, key=FILES.index)


def matched(text: str, name: str) -> bool:
    pattern = GlobPattern(os.fsencode(text).split(b"/"))
    *folders, file = os.fsencode(name).split(b"/")
    states = pattern.start
    for folder in folders:
        states = pattern.enter_folder(states, folder)
    return pattern.matches_file(states, file)


def test_states_are_empty_where_nothing_can_match() -> None:
    pattern = GlobPattern([b"x", b"**", b"*.jpg"])
    assert pattern.enter_folder(pattern.start, b"x")
    assert not pattern.enter_folder(pattern.start, b"y")
