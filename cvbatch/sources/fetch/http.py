"""Images of the web, from hosts that a job lists: what is asked, what is believed, and what an answer means."""

from __future__ import annotations

import http.client
import os
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from cvbatch.errors import ImageError, UnavailableError
from cvbatch.sources.fetch.connections import Connection, connection_to
from cvbatch.sources.fetch.local import too_large
from cvbatch.sources.fetch.url_policy import Target
from cvbatch.storage.http_hosts import HttpOptions

MAX_BYTES: Final = 64 << 20
"""Of an image, unless the job says otherwise. Nobody knows the size of what a server will send."""
TOTAL_SECONDS: Final = 120
"""For one image, with all tries."""
TRIES: Final = 4
REDIRECTS: Final = 3
_BLOCK: Final = 256 << 10
_SMALL: Final = 64 << 10
"""The page of an error is read up to this size, which leaves the connection fit for the next request."""
_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": "cvbatch",
}
_LEADS_ON: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE: Final = frozenset({404, 410})
_DENIED: Final = frozenset({401, 403, 407})
_PAUSES: Final = wait_random_exponential(multiplier=0.5, max=10)


class _BusyError(UnavailableError):
    """It may go better another time.

    Args:
        message: One line.
        after: Seconds to wait, as the server says.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def get(location: bytes, options: HttpOptions, max_bytes: int | None = None) -> bytes:
    """Fetch an image.

    Args:
        location: Its URL, exactly.
        options: Which hosts may be asked.
        max_bytes: Nothing larger is read.

    Raises:
        ImageError: `HostNotAllowed`, `PrivateAddress`, `HostNotFound`, `InvalidUrl`, `SecretInUri`, `NotFound`,
            `PermissionDenied`, `RedirectRefused`, `TooManyBytes`, `UnsupportedEncoding`, `UntrustedCertificate` or
            `HttpStatus`. No message repeats the URL.
        UnavailableError: If there is no usable answer after all tries.
    """
    target = Target.of(os.fsdecode(location))
    target.check(options)
    deadline = time.monotonic() + TOTAL_SECONDS
    again = Retrying(
        stop=stop_after_attempt(TRIES) | stop_before_delay(TOTAL_SECONDS),
        wait=_pause,
        retry=retry_if_exception_type(UnavailableError),
        reraise=True,
    )
    try:
        return again(_follow, target, options, max_bytes or MAX_BYTES, deadline)
    except _BusyError as error:
        raise UnavailableError(str(error)) from None


def _pause(state: RetryCallState) -> float:
    """As long as the server asks for, and a random while more."""
    failed = state.outcome and state.outcome.exception()
    asked = failed.after if isinstance(failed, _BusyError) else None
    return _PAUSES(state) + (asked or 0.0)


def _follow(target: Target, options: HttpOptions, max_bytes: int, deadline: float) -> bytes:
    for _ in range(1 + REDIRECTS):
        answer = _ask(target, options, max_bytes, deadline)
        if isinstance(answer, bytes):
            return answer
        target = answer
    raise ImageError("RedirectRefused", f"{target} leads on and on; expected at most {REDIRECTS} redirects")


def _ask(target: Target, options: HttpOptions, max_bytes: int, deadline: float) -> bytes | Target:
    """The image, or where it is."""
    try:
        with connection_to(target, options, deadline) as connection:
            connection.request("GET", target.path, headers={"Host": str(target), **_HEADERS})
            answer = _understood(connection, target, options, max_bytes)
    except ssl.SSLCertVerificationError as error:
        raise ImageError("UntrustedCertificate", f"{target}: {error.verify_message.strip().rstrip('.')}") from None
    except (OSError, http.client.HTTPException) as error:
        why = "too slow" if isinstance(error, TimeoutError) else type(error).__name__
        raise UnavailableError(f"{target} gave no usable answer after all tries ({why}); try again later") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _understood(
    connection: Connection, target: Target, options: HttpOptions, max_bytes: int
) -> bytes | Target | ImageError | _BusyError:
    """What an answer means; a refusal is returned where the connection is as good as before."""
    response = connection.getresponse()
    with response:
        status = response.status
        if status == http.HTTPStatus.OK:
            return _body(response, target, max_bytes)
        page = response.read(_SMALL)
        if len(page) == _SMALL or status < http.HTTPStatus.OK:
            connection.close()
        if status in _LEADS_ON and (location := response.getheader("Location")):
            return target.redirected(location, options)
        return _refusal(response, target)


def _body(response: http.client.HTTPResponse, target: Target, max_bytes: int) -> bytes:
    for name, plain in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        encoding = response.getheader(name, plain).strip().lower()
        if encoding not in (plain, ""):
            raise ImageError("UnsupportedEncoding", f"{target} sends it packed, though it was asked not to ({name})")
    if response.length is not None and response.length > max_bytes:
        raise too_large(response.length, max_bytes)
    pieces, size = [], 0
    while piece := response.read(_BLOCK):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise ImageError("TooManyBytes", f"expected at most {max_bytes} bytes, got more")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)


def _refusal(response: http.client.HTTPResponse, target: Target) -> ImageError | _BusyError:
    status = response.status
    if status in _GONE:
        return ImageError("NotFound", f"{target} has no such image ({status})")
    if status in _DENIED:
        return ImageError("PermissionDenied", f"{target} denies it ({status}); it is asked without credentials")
    if status in _TRANSIENT:
        after = _seconds(response.getheader("Retry-After", ""))
        return _BusyError(f"{target} says {status} after all tries; try again later", after)
    return ImageError("HttpStatus", f"{target} says {status}; expected 200")


def _seconds(text: str) -> float | None:
    """What `Retry-After` asks for: seconds, or a date."""
    if text.strip().isascii() and text.strip().isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
