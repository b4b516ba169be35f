"""Everything that rests on private or undocumented behaviour of botocore, in one place.

Each entry says why it is needed. All were seen with botocore 1.43.117, and `tests/storage/test_botocore_compat.py`
fails when an upgrade takes one away.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from botocore.loaders import create_loader

CREDENTIALS_LAST: Final = timedelta(minutes=5)
"""For which credentials are good at least: botocore renews them some 15 minutes before their end, at the latest 10."""
_BODY: Final = "cvbatch_body"


def take_bodies(client: Any, operation: str) -> None:
    """Let a client hand over the bodies of one operation's answers, see `body_of`, instead of parsing them.

    Botocore looks for errors in whatever came with 200, at the cost of parsing it: by the first `*` we come before
    that. An empty body is what it takes for an answer without fields.

    Args:
        client: Of botocore.
        operation: As the service calls it, as `ListObjectsV2`.
    """
    client.meta.events.register(f"before-parse.*.{operation}", _take_body)


def body_of(answer: Any) -> bytes:
    """The body that `take_bodies` took."""
    body: bytes = answer[_BODY]
    return body


def share_descriptions(session: Any) -> None:
    """Let a session use the descriptions of services that an earlier one has read.

    Reading them is half of what a client costs, and they are the same for all.
    """
    session.register_component("data_loader", _make_loader(session.get_config_variable("data_path")))


@lru_cache
def _make_loader(data_path: str | None) -> Any:
    return create_loader(data_path)


def _take_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] == 200:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b""
