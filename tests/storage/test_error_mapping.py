"""Errors of the clients become cvbatch's errors."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError, ReadTimeoutError
from obstore.exceptions import GenericError, PermissionDeniedError, PreconditionError

from cvbatch.errors import DeniedError, RowError, StorageError, UnavailableError, capture_row_error
from cvbatch.storage.error_mapping import explain_error, map_storage_errors

URI = "s3://bucket/a"


def said(status: int, code: str = "") -> GenericError:
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>AKIA-hush</Message></Error>" if code else ""
    return GenericError(
        f"Generic S3 error: Server returned non-2xx status code: {status} Words: {body}\n\nDebug source:\nx"
    )


def told(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "hush"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (said(503, "SlowDown"), UnavailableError, "503 SlowDown after all tries"),
        (told(503, "SlowDown"), UnavailableError, "503 SlowDown after all tries"),
        (said(400, "RequestTimeout"), UnavailableError, "400 RequestTimeout"),
        (said(400, "ExpiredToken"), DeniedError, "400 ExpiredToken"),
        (said(400, "AuthorizationHeaderMalformed"), StorageError, "check region and endpoint_url"),
        (said(301, "PermanentRedirect"), StorageError, "check region and endpoint_url"),
        (told(400, "InvalidArgument"), StorageError, "answered 400 InvalidArgument; check the location"),
        (said(403), DeniedError, r"is denied \(403\)"),
        (told(403, "403"), DeniedError, r"is denied \(403\)"),
        (PermissionDeniedError("no"), DeniedError, r"is denied \(403\)"),
        (said(404, "NoSuchBucket"), StorageError, "there is no such bucket"),
        (told(404, "NoSuchKey"), FileNotFoundError, "no such object"),
        (PreconditionError("x"), StorageError, "changed while it was read"),
        (NoCredentialsError(), DeniedError, "expected credentials in the environment"),
        (CredentialRetrievalError(provider="p", error_msg="hush"), DeniedError, "cannot be renewed"),
        (
            ReadTimeoutError(endpoint_url="http://x?X-Amz-Signature=hush"),
            UnavailableError,
            "no response after all tries",
        ),
        (GenericError("odd\n\nDebug source: hush"), StorageError, "GenericError: odd$"),
    ],
)
def test_messages_have_one_line_and_name_the_fix(error: Exception, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised, map_storage_errors(URI):
        raise error
    assert type(raised.value) is kind
    assert URI in str(raised.value)
    assert not {"\n", "<"} & set(str(raised.value))
    assert "hush" not in str(raised.value)


def test_transient_errors_are_marked_in_the_row() -> None:
    def fetch() -> None:
        raise explain_error(said(503, "SlowDown"), URI)

    failed = capture_row_error("fetch", fetch)
    assert isinstance(failed, RowError)
    assert (failed.type, failed.transient) == ("UnavailableError", True)
