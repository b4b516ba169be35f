"""What clients of object stores raise, as errors of ours: one line, without the XML, and with what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from cvbatch.errors import CvbatchError, DeniedError, StorageError, UnavailableError
from cvbatch.storage.location import redact_secrets
from cvbatch.storage.obstore_compat import is_no_answer, message_in, status_in

_NO_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound"})
_BODY_ENDED: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_TRANSIENT: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
_ACCESS: Final = (
    "check the credentials of this machine and their rights (without the right to list a bucket, what is not there "
    "is denied, too)"
)
_UNREACHABLE: Final = "check endpoint_url and region, and try again later"

STORAGE_ERRORS: Final = (BaseError, BotoCoreError, ClientError, FileNotFoundError, ValueError)
"""What the clients raise."""


@contextlib.contextmanager
def map_storage_errors(uri: str) -> Iterator[None]:
    """Turn whatever the clients raise inside into an error of ours about a URI."""
    try:
        yield
    except (CvbatchError, AlreadyExistsError):
        raise
    except STORAGE_ERRORS as error:
        raise explain_error(error, uri) from None


def explain_error(error: Exception, uri: str) -> CvbatchError | FileNotFoundError:
    """The error of ours that says what a client's error means.

    Args:
        error: One of `STORAGE_ERRORS`.
        uri: What was asked for.
    """
    where, (status, code) = redact_secrets(uri), http_status_of(error)
    said = f"{status} {code}".strip() if status else ""
    if code in _NO_BUCKET:
        return StorageError(f"{where}: there is no such bucket; create it, or check the location and endpoint_url")
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, "no such object", where)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return DeniedError(
            f"{where}: this machine has no credentials: expected them in the environment, a profile, a web identity "
            "or its metadata; anonymous: true asks without"
        )
    if isinstance(error, CredentialRetrievalError | TokenRetrievalError):
        return DeniedError(f"{where}: the credentials of this machine cannot be renewed ({type(error).__name__})")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403) or code in _BODY_ENDED:
        return DeniedError(f"{where} is denied ({said or 403}): {_ACCESS}")
    if isinstance(error, PreconditionError) or status == 412:
        return StorageError(f"{where} changed while it was read; try again")
    if status in (301, 307) or code == "AuthorizationHeaderMalformed":
        return StorageError(f"{where}: the service says {said}: check region and endpoint_url")
    if status in _TRANSIENT or code == "RequestTimeout":
        return UnavailableError(f"{where}: the service says {said} after all tries: {_UNREACHABLE}")
    if status:
        return StorageError(f"{where}: the service says {said}, which was not expected")
    if isinstance(error, ConnectionError | HTTPClientError) or is_no_answer(str(error)):
        return UnavailableError(f"{where}: no answer after all tries: {_UNREACHABLE}")
    return StorageError(f"{where}: {type(error).__name__}: {redact_secrets(message_in(str(error)))[:200]}")


def http_status_of(error: Exception) -> tuple[int, str]:
    """HTTP status and the service's own code; 0 and nothing where there was no answer."""
    if isinstance(error, ClientError):
        told = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status), "" if told.isdecimal() else told
    return status_in(str(error))
