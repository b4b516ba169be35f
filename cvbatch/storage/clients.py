"""Makes obstore's clients, which read and write the bytes in all kinds of buckets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from cvbatch.storage.location import Location
from cvbatch.storage.s3_access import CONNECT_SECONDS, READ_TIMEOUT, S3Access

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    Client = AzureStore | GCSStore | S3Store

_REQUEST_SECONDS: Final = 120
"""Maximum time of one request; an interrupted read resumes with the next request."""
_QUICK_RETRIES: Final = 3


def make_client(location: Location, access: S3Access | None, *, retries: bool) -> Client:
    """Make a client for the bucket of a location.

    With retries it quickly repeats requests that got no response or a status of 408, 429 or 5xx. If the body of an
    object breaks off or stalls, it resumes at that position.

    Args:
        location: Location with the name of the bucket.
        access: Access to the bucket, for S3.
        retries: Whether the client repeats requests.
    """
    options = location.options
    endpoint = access.endpoint if access else options.endpoint_url
    common: dict[str, Any] = {
        "client_options": _client_options(endpoint, access),
        "retry_config": _retry_config(retries),
    }
    if access is not None:
        bucket_endpoint = (
            access.endpoint if access.path_style else _endpoint_with_bucket(access.endpoint, location.bucket)
        )
        return S3Store(
            location.bucket,
            endpoint=bucket_endpoint,
            aws_endpoint_url_s3=bucket_endpoint,  # otherwise the environment variable has precedence
            region=access.region,
            virtual_hosted_style_request=not access.path_style,
            skip_signature=access.credentials is None,
            credential_provider=access.credentials,
            disable_bulk_delete=True,  # a single delete has a response of its own, and shows a missing right
            **common,
        )
    endpoint_options = {name: value for name, value in _endpoint_of_location(location, endpoint).items() if value}
    store_class = GCSStore if location.scheme == "gs" else AzureStore
    return store_class(location.bucket, **endpoint_options, **common)


def _endpoint_of_location(location: Location, endpoint: str | None) -> dict[str, Any]:
    endpoint_option = "base_url" if location.scheme == "gs" else "endpoint"
    return {endpoint_option: endpoint, "skip_signature": location.options.anonymous}


def _endpoint_with_bucket(endpoint: str, bucket: str) -> str:
    parts = urlsplit(endpoint)
    return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()


def _client_options(endpoint: str | None, access: S3Access | None) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": endpoint is not None and endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_TIMEOUT.current_value),
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
    }
    if access is not None and access.certificates is not None:
        options["root_certificate"] = Path(access.certificates).read_bytes()
    return options


def _retry_config(retries: bool) -> RetryConfig:
    return {"max_retries": _QUICK_RETRIES if retries else 0}
