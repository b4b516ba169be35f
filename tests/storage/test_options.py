"""Options of object stores, as users write them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from cvbatch.errors import JobError
from cvbatch.storage.options import StorageOptions


def test_from_texts() -> None:
    options = StorageOptions.parse_assignments(["endpoint_url=http://127.0.0.1:9000", "path_style=true", "region=007"])
    assert options == StorageOptions(endpoint_url="http://127.0.0.1:9000", path_style=True, region="007")
    assert pickle.loads(pickle.dumps(options)) == options
    assert StorageOptions.parse_assignments([]) == StorageOptions()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("secret_access_key=x", "expected one of endpoint_url, region, path_style, anonymous, profile"),
        ("region", "expected KEY=VALUE"),
        ("anonymous=perhaps", "expected true or false for anonymous"),
        ("anonymous=[", "expected true or false"),
        ("endpoint_url=127.0.0.1:9000", "expected a URL such as"),
        ("endpoint_url=ftp://x", "expected a URL such as"),
    ],
)
def test_errors_name_the_problem(text: str, complaint: str) -> None:
    with pytest.raises(JobError, match=complaint):
        StorageOptions.parse_assignments([text])


@pytest.mark.parametrize("values", [{"anonymous": None}, {"region": 3}, {"path_style": "yes"}])
def test_values_of_the_wrong_type(values: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="expected"):
        StorageOptions.from_mapping(values)


def test_an_endpoint_with_credentials_is_refused_and_not_repeated() -> None:
    with pytest.raises(JobError, match="without credentials") as refused:
        StorageOptions(endpoint_url="http://key:hush@127.0.0.1:9000")
    assert "hush" not in str(refused.value)
