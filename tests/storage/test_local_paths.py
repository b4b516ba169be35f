"""Paths stay unchanged, URIs are decoded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvbatch.storage.local_paths import to_local_path


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/x%20y#1?", "/a/x%20y#1?"),
        ("file:///a/x%20y", "/a/x y"),
        ("file://localhost/a", "/a"),
        ("file:/a%20b", "/a b"),
        ("FILE:///a", "/a"),
        ("File://LocalHost/a", "/a"),
        ("file:////a", "/a"),
        ("file://host/a", None),
        ("file://localhostess/a", None),
        ("file:///a#1?b", "/a#1?b"),
        ("s3://bucket/key", None),
        ("https://host/a.jpg", None),
    ],
)
def test_local_path(uri: str, path: str | None) -> None:
    assert to_local_path(uri) == path


def test_names_that_are_not_utf8() -> None:
    assert os.fsencode(to_local_path("file:///caf%E9") or "") == b"/caf\xe9"


def test_relative_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert to_local_path("a/../b") == str(tmp_path / "b")
    assert to_local_path("~/b") == "/home/me/b"
