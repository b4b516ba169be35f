"""Address of the Ray cluster, and a quick check that its head answers: Ray itself retries for many minutes."""

from __future__ import annotations

import os
import re
import socket
import time
from typing import Final

from cvbatch.errors import RunError, UsageError

ON_THIS_MACHINE: Final = "auto"
_PORT: Final = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\s]+):(?P<port>\d{1,5})")
_HIGHEST_PORT: Final = 65_535
_REFUSED_SECONDS: Final = 15.0
"""How long to retry when the head refuses connections or its name is unknown: it may be starting."""
_POLL_SECONDS: Final = 0.5


def cluster_address() -> str | None:
    """Return the address in `RAY_ADDRESS`; None to start a local head.

    Raises:
        UsageError: If it is not the address of a head.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in ("", "local"):
        return None
    if address.startswith(("http://", "https://")):
        raise UsageError(f"RAY_ADDRESS={address}: expected host:port of a head, not its dashboard")
    if address.startswith("ray://"):
        raise UsageError(
            f"RAY_ADDRESS={address}: expected host:port of a head, usually port 6379, not a Ray Client address"
        )
    if address != ON_THIS_MACHINE and _host_and_port(address) is None:
        raise UsageError(
            f"RAY_ADDRESS={address}: expected host:port of a head, such as 10.0.0.5:6379; unset it to run on this "
            "machine alone"
        )
    return address


def wait_for_head(address: str, timeout: float) -> None:
    """Wait until a head answers at an address; `auto` is left to Ray.

    Args:
        address: See `cluster_address`.
        timeout: Seconds to wait for an answer; the wait is shorter where connections are refused.

    Raises:
        RunError: If no head answers in time.
    """
    if (host_and_port := _host_and_port(address)) is None:
        return
    started = time.monotonic()
    while True:
        try:
            socket.create_connection(
                host_and_port, timeout=max(_POLL_SECONDS, timeout - (time.monotonic() - started))
            ).close()
            return
        except TimeoutError:
            reason, max_wait = f"no answer within {timeout:.0f} s", timeout
        except (OSError, UnicodeError) as error:  # a name with empty or long parts is a UnicodeError
            reason, max_wait = getattr(error, "strerror", None) or str(error), min(timeout, _REFUSED_SECONDS)
        if time.monotonic() - started > max_wait - _POLL_SECONDS:
            raise RunError(no_cluster_error(address, reason.lower()))
        time.sleep(_POLL_SECONDS)


def no_cluster_error(address: str, reason: str) -> str:
    """Return the error message for a cluster that does not answer.

    Args:
        address: Value of `RAY_ADDRESS`.
        reason: Why the connection failed.
    """
    if address == ON_THIS_MACHINE:
        return (
            f"RAY_ADDRESS=auto: no Ray cluster runs on this machine ({reason}); start one with ray start --head, set "
            "host:port of another one, or unset RAY_ADDRESS to run on this machine alone"
        )
    return (
        f"no Ray cluster answers at RAY_ADDRESS={address} ({reason}): check that its head runs and that this machine "
        "can reach it, or unset RAY_ADDRESS to run on this machine alone"
    )


def _host_and_port(address: str) -> tuple[str, int] | None:
    match = _PORT.fullmatch(address)
    if match is None or not 0 < int(match["port"]) <= _HIGHEST_PORT:
        return None
    return match["host"].strip("[]"), int(match["port"])
