"""Fetching of web images from hosts that a job lists: requests, redirects, retries and limits."""

from __future__ import annotations

import asyncio
import http
import os
import ssl
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from cvbatch.errors import ImageError, UnavailableError
from cvbatch.sources.fetch.connections import WebSessions, web_client
from cvbatch.sources.fetch.local import too_many_bytes_error
from cvbatch.sources.fetch.url_policy import HttpTarget
from cvbatch.storage.buckets import GetResult
from cvbatch.storage.http_hosts import HTTP_PAUSE, HTTP_TOTAL_SECONDS, HttpOptions

MAX_BYTES: Final = 64 << 20
"""Default limit for an image, as the size of a response is not known in advance."""
TRIES: Final = 4
REDIRECTS: Final = 3
_MAX_ERROR_PAGE_BYTES: Final = 64 << 10
"""An error page is read up to this size, so that the connection can be reused."""
_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": "cvbatch",
}
_REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_FOUND_STATUSES: Final = frozenset({404, 410})
_DENIED_STATUSES: Final = frozenset({401, 403, 407})
_LONGEST_PAUSE: Final = 10


class _BusyError(UnavailableError):
    """The server is busy and the request can succeed later.

    Args:
        message: One line.
        after: Seconds to wait, if the server requests a pause.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def get_image(location: bytes, options: HttpOptions, max_bytes: int | None = None) -> bytes:
    """Fetch an image.

    Args:
        location: Exact URL.
        options: Allowed hosts.
        max_bytes: Larger images are not read.

    Raises:
        ImageError: `HostNotAllowed`, `PrivateAddress`, `HostNotFound`, `InvalidUrl`, `SecretInUri`, `NotFound`,
            `PermissionDenied`, `RedirectRefused`, `TooManyBytes`, `UnsupportedEncoding`, `UntrustedCertificate` or
            `HttpStatus`. No message contains the URL.
        UnavailableError: If there is no usable response after all tries.
    """
    return start_get_image(location, options, max_bytes).result().data


def start_get_image(location: bytes, options: HttpOptions, max_bytes: int | None = None) -> Future[GetResult]:
    """Start `get_image` without waiting; its errors are raised by the future."""
    return web_client().start_coroutine(
        lambda sessions: _get_with_retries(sessions, location, options, max_bytes or MAX_BYTES)
    )


async def _get_with_retries(sessions: WebSessions, location: bytes, options: HttpOptions, max_bytes: int) -> GetResult:
    target = HttpTarget.parse_url(os.fsdecode(location))
    target.check_host(options)
    deadline = time.monotonic() + HTTP_TOTAL_SECONDS.current_value
    retrying = AsyncRetrying(
        stop=stop_after_attempt(TRIES) | stop_before_delay(HTTP_TOTAL_SECONDS.current_value),
        wait=_retry_pause,
        retry=retry_if_exception_type(UnavailableError),
        reraise=True,
    )
    try:
        return GetResult(await retrying(_follow_redirects, sessions, target, options, max_bytes, deadline), None)
    except _BusyError as error:
        raise UnavailableError(str(error)) from None


def _retry_pause(state: RetryCallState) -> float:
    """Seconds to wait: the pause that the server requests plus a random time."""
    error = state.outcome and state.outcome.exception()
    requested_seconds = error.after if isinstance(error, _BusyError) else None
    random_pause = wait_random_exponential(multiplier=HTTP_PAUSE.current_value, max=_LONGEST_PAUSE)
    return random_pause(state) + (requested_seconds or 0.0)


async def _follow_redirects(
    sessions: WebSessions, target: HttpTarget, options: HttpOptions, max_bytes: int, deadline: float
) -> bytes:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            for _ in range(1 + REDIRECTS):
                result = await _request_once(sessions, target, options, max_bytes)
                if isinstance(result, bytes):
                    return result
                target = result
    except aiohttp.ClientConnectorCertificateError as error:
        raise ImageError(
            "UntrustedCertificate", f"{target}: {_untrusted_certificate_error(error.certificate_error)}"
        ) from None
    except aiohttp.InvalidURL:
        raise ImageError("InvalidUrl", f"{target.host}: expected a name or an IPv4 address of four numbers") from None
    except (OSError, aiohttp.ClientError) as error:
        raise UnavailableError(
            f"{target} gave no usable response after all tries ({_failure_reason(error)}); try again later"
        ) from None
    raise ImageError("RedirectRefused", f"{target} redirects too often: expected at most {REDIRECTS} redirects")


async def _request_once(
    sessions: WebSessions, target: HttpTarget, options: HttpOptions, max_bytes: int
) -> bytes | HttpTarget:
    """The image, or the target of a redirect."""
    async with sessions.send_request(target, options, {"Host": str(target), **_HEADERS}) as response:
        if response.status == http.HTTPStatus.OK:
            return await _read_body(response, target, max_bytes)
        await _read_body_bounded(response, _MAX_ERROR_PAGE_BYTES)
        if response.status in _REDIRECT_STATUSES and (location := response.headers.get("Location")):
            return target.follow_redirect(location, options)
        raise _status_error(response, target)


async def _read_body(response: aiohttp.ClientResponse, target: HttpTarget, max_bytes: int) -> bytes:
    for name, plain_encoding in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        encoding = ", ".join(response.headers.getall(name, ())).strip().lower()
        if encoding not in (plain_encoding, ""):
            raise ImageError(
                "UnsupportedEncoding", f"{target} sends it compressed, although the request forbids that ({name})"
            )
    if response.content_length is not None and response.content_length > max_bytes:
        raise too_many_bytes_error(response.content_length, max_bytes)
    data = await _read_body_bounded(response, max_bytes)
    if data is None:
        raise ImageError("TooManyBytes", f"expected at most {max_bytes} bytes, got more")
    return data


async def _read_body_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """The body, or None if it is larger than `max_bytes`; then aiohttp closes the connection."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            return None
    return b"".join(chunks)


def _untrusted_certificate_error(error: Exception) -> str:
    message = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    return message.strip().rstrip(".")


def _failure_reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "too slow"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    return type(error).__name__


def _status_error(response: aiohttp.ClientResponse, target: HttpTarget) -> ImageError | _BusyError:
    status = response.status
    if status in _NOT_FOUND_STATUSES:
        return ImageError("NotFound", f"{target} has no such image ({status})")
    if status in _DENIED_STATUSES:
        return ImageError(
            "PermissionDenied", f"{target} denies access ({status}); requests are sent without credentials"
        )
    if status in _TRANSIENT_STATUSES:
        after = _parse_retry_after(response.headers.get("Retry-After", ""))
        return _BusyError(f"{target} answers with status {status} after all tries; try again later", after)
    return ImageError("HttpStatus", f"{target} answers with status {status}: expected 200")


def _parse_retry_after(text: str) -> float | None:
    """Seconds that a `Retry-After` header requests, given in seconds or as a date; None if it is invalid."""
    if text.strip().isascii() and text.strip().isdecimal():
        return float(text)
    try:
        retry_time = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (retry_time.replace(tzinfo=retry_time.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
