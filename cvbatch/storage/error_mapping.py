"""Maps errors of the object store clients to cvbatch's errors: one line, without XML, and with what to do."""

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
    "check the credentials of this machine and their rights (without the right to list a bucket, requests for missing "
    "objects are denied, too)"
)
_UNREACHABLE: Final = "check endpoint_url and region, and try again later"

STORAGE_ERRORS: Final = (BaseError, BotoCoreError, ClientError, FileNotFoundError, ValueError)
"""Errors that the clients raise."""


@contextlib.contextmanager
def map_storage_errors(uri: str) -> Iterator[None]:
    """Replace errors of the clients in this context by cvbatch's errors, which name a URI."""
    try:
        yield
    except (CvbatchError, AlreadyExistsError):
        raise
    except STORAGE_ERRORS as error:
        raise explain_error(error, uri) from None


def explain_error(error: Exception, uri: str) -> CvbatchError | FileNotFoundError:
    """Return the error to raise for an error of a client.

    Args:
        error: One of `STORAGE_ERRORS`.
        uri: Requested URI.
    """
    where, (status, code) = redact_secrets(uri), http_status_of(error)
    answer = f"{status} {code}".strip() if status else ""
    if code in _NO_BUCKET:
        return StorageError(f"{where}: there is no such bucket; create it, or check the location and endpoint_url")
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, "no such object", where)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return DeniedError(
            f"{where}: expected credentials in the environment, a profile, a web identity or the metadata of this "
            "machine, got none; for a public bucket set anonymous: true"
        )
    if isinstance(error, CredentialRetrievalError | TokenRetrievalError):
        return DeniedError(
            f"{where}: the credentials of this machine cannot be renewed ({type(error).__name__}); check them"
        )
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403) or code in _BODY_ENDED:
        return DeniedError(f"{where} is denied ({answer or 403}): {_ACCESS}")
    if isinstance(error, PreconditionError) or status == 412:
        return StorageError(f"{where} changed while it was read; try again")
    if status in (301, 307) or code == "AuthorizationHeaderMalformed":
        return StorageError(f"{where}: the service answered {answer}: check region and endpoint_url")
    if status in _TRANSIENT or code == "RequestTimeout":
        return UnavailableError(f"{where}: the service answered {answer} after all tries: {_UNREACHABLE}")
    if status:
        return StorageError(
            f"{where}: the service answered {answer}; check the location and the options of the service"
        )
    if isinstance(error, ConnectionError | HTTPClientError) or is_no_answer(str(error)):
        return UnavailableError(f"{where}: no response after all tries: {_UNREACHABLE}")
    return StorageError(f"{where}: {type(error).__name__}: {redact_secrets(message_in(str(error)))[:200]}")


def http_status_of(error: Exception) -> tuple[int, str]:
    """HTTP status and the service's error code; 0 and an empty text if there was no response."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status), "" if code.isdecimal() else code
    return status_in(str(error))
