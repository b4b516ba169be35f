"""obstore's clients get all their options from cvbatch, which override the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from cvbatch.storage.clients import make_client
from cvbatch.storage.location import Location
from cvbatch.storage.s3_access import S3Access


def reached(*, path_style: bool, certificates: str | None = None) -> S3Access:
    return S3Access(
        client=None,
        endpoint="https://s3.eu-west-1.amazonaws.com",
        region="eu-west-1",
        path_style=path_style,
        credentials=None,
        certificates=certificates,
    )


@pytest.mark.parametrize(
    ("path_style", "endpoint"),
    [(True, "https://s3.eu-west-1.amazonaws.com"), (False, "https://box.s3.eu-west-1.amazonaws.com")],
)
def test_the_bucket_is_in_the_path_or_in_the_host(
    monkeypatch: pytest.MonkeyPatch, path_style: bool, endpoint: str
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://elsewhere")
    monkeypatch.setenv("AWS_REGION", "elsewhere")
    config = make_client(Location.from_uri("s3://box/x"), reached(path_style=path_style), retries=True).config
    assert (config["endpoint"], config["region"]) == (endpoint, "eu-west-1")
    assert str(config["virtual_hosted_style_request"]).lower() == str(not path_style).lower()


def test_own_certificates_are_trusted(tmp_path: Path) -> None:
    """Invalid certificates raise an error, which shows that the file is read."""
    (tmp_path / "ca.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    access = reached(path_style=True, certificates=str(tmp_path / "ca.pem"))
    with pytest.raises(BaseError):
        make_client(Location.from_uri("s3://box/x"), access, retries=True)
