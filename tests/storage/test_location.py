"""Locations: bucket and key, invalid locations, and secrets that never appear in messages."""

from __future__ import annotations

import pickle

import pytest

from cvbatch.errors import JobError
from cvbatch.storage.location import Location, has_secret, redact_secrets, strip_secret
from cvbatch.storage.options import StorageOptions


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", ("s3", "bucket", "")),
        ("gs://a.b/c/d/", ("gs", "a.b", "c/d/")),
        ("az://box/ü b%20c#d?e", ("az", "box", "ü b%20c#d?e")),
        ("s3://bucket//x", ("s3", "bucket", "/x")),
        ("s3://bucket/user@example.org/x", ("s3", "bucket", "user@example.org/x")),
    ],
)
def test_parts_stay_unchanged(uri: str, parts: tuple[str, str, str]) -> None:
    place = Location.from_uri(uri, StorageOptions(region="x"))
    assert (place.scheme, place.bucket, place.key) == parts
    assert not place.is_local
    assert str(place) == uri
    assert pickle.loads(pickle.dumps(place)) == place


def test_local_paths_are_made_absolute_and_need_no_options() -> None:
    assert Location.from_uri("file:///a/x%20y", StorageOptions(region="x")) == Location("/a/x y")
    assert Location.from_uri("/a/../b").is_local


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hush@bucket/key",
        "s3://AKIA:hu/sh/hush@bucket/key",
        "s3://hush@bucket",
        "s3://bucket/key?X-Amz-Signature=hush",
        "s3://bucket/key?a=b&x-amz-credential=hush",
        "gs://bucket/key?GoogleAccessId=hush",
        "az://box/key?sv=2024&sig=hush",
    ],
)
def test_secrets_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(JobError, match="expected") as refused:
        Location.from_uri(uri)
    assert "hush" not in str(refused.value)
    assert "hush" not in redact_secrets(f"cannot read {uri} now")
    assert redact_secrets(f"cannot read {uri} now").endswith(" now")


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("s3://", "not a valid bucket name"),
        ("s3:///key", "not a valid bucket name"),
        ("s3://a b/key", "not a valid bucket name"),
        ("s3://bucket/a/../b", "without . and .."),
        ("s3://bucket/.", "without . and .."),
        ("https://example.org/x", "https://… is not known"),
    ],
)
def test_invalid_locations(uri: str, complaint: str) -> None:
    with pytest.raises(JobError, match=complaint):
        Location.from_uri(uri)


def test_texts_without_a_secret_stay_unchanged() -> None:
    text = "s3://bucket/img?.jpg and s3://bucket/a@b, mail me@example.org"
    assert redact_secrets(text) == text


@pytest.mark.parametrize(
    ("uri", "stripped"),
    [
        ("https://example.org/a.jpg?X-Amz-Signature=s3cret&w=1", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg?X%2DAmz-Signature=s3cret", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg?w=1&sv=2020&sig=s3cret", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg?access_token=s3cret", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg#token=s3cret", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg%3Ftoken=s3cret", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg?Policy=x&Key-Pair-Id=s3cret", "https://example.org/a.jpg?…"),
        ("https://example.org/a.jpg?at=https%3A%2F%2Fx%3Fsig%3Ds3cret", "https://example.org/a.jpg?…"),
        ("HTTPS://s3cret@example.org/a.jpg", "HTTPS://…@example.org/a.jpg"),
        ("https://me:s3cret@example.org:8080/a@b.jpg", "https://…@example.org:8080/a@b.jpg"),
        ("https://me:s3/cret@example.org/a.jpg", "https://…@example.org/a.jpg"),
        ("https://me:s3cret@example.org/a.jpg?w=1", "https://…@example.org/a.jpg?…"),
        ("ftp://me:s3cret@example.org/a.jpg", "ftp://…@example.org/a.jpg"),
        ("s3://bucket/a.jpg?X-Amz-Signature=s3cret", "s3://bucket/a.jpg?…"),
    ],
)
def test_a_uri_with_a_secret_is_stripped(uri: str, stripped: str) -> None:
    assert has_secret(uri)
    assert strip_secret(uri) == stripped
    assert not has_secret(stripped.replace("…@", ""))


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.jpg?w=100&format=webp&design=1&v=3",
        "https://example.org:8080/icons/a@2x.png",
        "https://[::1]:8080/icons/a@2x.png",
        "https://example.org/users/me@example.org/a.jpg",
        "https://example.org/sig=1/a.jpg",
        "s3://bucket/a@b/c.jpg",
        "photos/a?sig=1.jpg",
        "file:///photos/a?sig=1.jpg",
    ],
)
def test_uris_without_a_secret(uri: str) -> None:
    assert not has_secret(uri)


def test_a_long_query_takes_no_time() -> None:
    assert not has_secret("https://example.org/?" + "a_-" * 50_000)
