"""All code that depends on private or undocumented behaviour of botocore.

Each entry says why it is needed. All were checked with botocore 1.43.117; `tests/storage/test_botocore_compat.py` fails
if an upgrade changes one of them.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from botocore.loaders import create_loader

CREDENTIALS_LAST: Final = timedelta(minutes=5)
"""Minimum remaining validity of credentials: botocore renews them 10 to 15 minutes before they expire."""
_BODY: Final = "cvbatch_body"


def take_bodies(client: Any, operation: str) -> None:
    """Make a client return the raw response bodies of one operation, see `body_of`, instead of parsing them.

    Botocore parses every response with status 200 to look for errors. A handler whose event name has a `*` runs before
    that. Botocore reads the empty body that remains as a response without fields.

    Args:
        client: A client of botocore.
        operation: Name of the operation in the API, such as `ListObjectsV2`.
    """
    client.meta.events.register(f"before-parse.*.{operation}", _take_body)


def body_of(response: Any) -> bytes:
    """The raw body of a response to an operation that is registered with `take_bodies`."""
    body: bytes = response[_BODY]
    return body


def share_descriptions(session: Any) -> None:
    """Let a session reuse the service descriptions that an earlier session has read.

    Reading them is half of the cost of a client, and they are the same for all sessions.
    """
    session.register_component("data_loader", _make_loader(session.get_config_variable("data_path")))


@lru_cache
def _make_loader(data_path: str | None) -> Any:
    return create_loader(data_path)


def _take_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] == 200:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b""
