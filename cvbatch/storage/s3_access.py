"""Access to S3 buckets: finds credentials, endpoint and region as all AWS tools do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError, ProfileNotFound

from cvbatch.errors import JobError
from cvbatch.storage.botocore_compat import CREDENTIALS_LAST, share_descriptions
from cvbatch.storage.options import StorageOptions
from cvbatch.system.environment import EnvironmentNumber

if TYPE_CHECKING:
    from obstore.store import S3Credential

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30
READ_TIMEOUT: Final = EnvironmentNumber("CVBATCH_STORAGE_READ_TIMEOUT", float(READ_SECONDS))
"""A connection without data for this many seconds is closed, and the request is retried."""
_DEFAULT_REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Access:
    """Access to one bucket."""

    client: Any
    """Client of botocore for this region and endpoint."""
    endpoint: str
    region: str
    path_style: bool
    credentials: Callable[[], S3Credential] | None
    """Returns current credentials; None for anonymous access."""
    certificates: str | None
    """File with trusted certificates, in addition to those of the system."""


def find_s3_access(bucket: str, options: StorageOptions) -> S3Access:
    """Find the access to a bucket, on the machine that uses it.

    Raises:
        JobError: If this machine does not have the requested profile.
        NoCredentialsError: If there are no credentials.
    """
    session = botocore.session.Session(profile=options.profile)
    try:
        share_descriptions(session)
        configured_region = session.get_config_variable("region")
        credentials = None if options.anonymous else session.get_credentials()
    except ProfileNotFound:
        raise JobError(
            f"profile: this machine has no profile {options.profile!r} in its AWS files; add it, or name another"
        ) from None
    if credentials is None and not options.anonymous:
        raise NoCredentialsError
    region = options.region or os.environ.get("AWS_REGION") or configured_region
    client = _make_s3_client(session, region or _DEFAULT_REGION, options)
    if options.region is None and _is_amazon_endpoint(client.meta.endpoint_url):
        actual_region = bucket_region(client, bucket) or region or _DEFAULT_REGION
        if actual_region != region:
            client = _make_s3_client(session, actual_region, options)
        region = actual_region
    endpoint = client.meta.endpoint_url
    return S3Access(
        client=client,
        endpoint=endpoint,
        region=region or _DEFAULT_REGION,
        path_style=_needs_path_style(endpoint, bucket, options),
        credentials=None if credentials is None else _credential_provider(credentials),
        certificates=session.get_config_variable("ca_bundle"),
    )


def bucket_region(client: Any, bucket: str) -> str | None:
    """Region of a bucket; the service returns it even without the right to read the bucket."""
    try:
        response = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        response = error.response
    region: str | None = response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return region


def _make_s3_client(session: Any, region: str, options: StorageOptions) -> Any:
    style = {None: "auto", True: "path", False: "virtual"}[options.path_style]
    client = session.create_client(
        "s3", region_name=region, endpoint_url=options.endpoint_url, config=_botocore_config(options, style)
    )
    if style == "auto" and not _is_amazon_endpoint(client.meta.endpoint_url):
        return session.create_client(
            "s3", region_name=region, endpoint_url=options.endpoint_url, config=_botocore_config(options, "path")
        )
    return client


def _botocore_config(options: StorageOptions, style: str) -> Config:
    signature = {"signature_version": UNSIGNED} if options.anonymous else {}
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_TIMEOUT.current_value,
        retries={"total_max_attempts": 1},  # `with_retries` repeats requests
        max_pool_connections=64,
        s3={"addressing_style": style},
        **signature,
    )


def _is_amazon_endpoint(endpoint: str) -> bool:
    return endpoint.rstrip("/").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _needs_path_style(endpoint: str, bucket: str, options: StorageOptions) -> bool:
    if options.path_style is not None:
        return options.path_style
    return not _is_amazon_endpoint(endpoint) or "." in bucket  # a certificate for *.s3… does not match further dots


def _credential_provider(credentials: Any) -> Callable[[], S3Credential]:
    def current_credentials() -> S3Credential:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_LAST,
        }

    return current_credentials
