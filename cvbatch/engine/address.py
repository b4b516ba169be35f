"""The cluster that `RAY_ADDRESS` names, and whether anybody is there: Ray itself would ask for many minutes."""

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
"""For which a head that refuses, or whose name nobody knows, may yet come up."""
_POLL_SECONDS: Final = 0.5


def cluster_address() -> str | None:
    """What `RAY_ADDRESS` says; None where a head of our own is wanted.

    Raises:
        UsageError: If it is no address of a head.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in ("", "local"):
        return None
    if address.startswith(("http://", "https://")):
        raise UsageError(f"RAY_ADDRESS={address}: expected host:port of a head, not its dashboard")
    if address.startswith("ray://"):
        raise UsageError(f"RAY_ADDRESS={address}: expected host:port of a head, mostly port 6379, not Ray Client's")
    if address != ON_THIS_MACHINE and _host_and_port(address) is None:
        raise UsageError(
            f"RAY_ADDRESS={address}: expected host:port of a head, such as 10.0.0.5:6379; unset it to run on this "
            "machine alone"
        )
    return address


def wait_for_head(address: str, seconds: float) -> None:
    """Wait until somebody answers at an address; `auto` is left to Ray.

    Args:
        address: See `cluster_address`.
        seconds: For how long. A head that refuses is not waited for as long.

    Raises:
        RunError: If nobody does.
    """
    if (where := _host_and_port(address)) is None:
        return
    began = time.monotonic()
    while True:
        try:
            socket.create_connection(where, timeout=max(_POLL_SECONDS, seconds - (time.monotonic() - began))).close()
            return
        except TimeoutError:
            why, patience = f"no answer within {seconds:.0f} s", seconds
        except (OSError, UnicodeError) as error:  # a name with empty or long parts is a UnicodeError
            why, patience = getattr(error, "strerror", None) or str(error), min(seconds, _REFUSED_SECONDS)
        if time.monotonic() - began > patience - _POLL_SECONDS:
            raise RunError(no_cluster_error(address, why.lower()))
        time.sleep(_POLL_SECONDS)


def no_cluster_error(address: str, why: str) -> str:
    """What to say where no cluster is found.

    Args:
        address: What `RAY_ADDRESS` says.
        why: What came instead.
    """
    if address == ON_THIS_MACHINE:
        return (
            f"RAY_ADDRESS=auto: no Ray cluster runs on this machine ({why}); start one with ray start --head, say "
            "host:port of another, or unset RAY_ADDRESS to run on this machine alone"
        )
    return (
        f"no Ray cluster answers at RAY_ADDRESS={address} ({why}): is its head up, and may this machine reach it? "
        "Unset RAY_ADDRESS to run on this machine alone"
    )


def _host_and_port(address: str) -> tuple[str, int] | None:
    found = _PORT.fullmatch(address)
    if found is None or not 0 < int(found["port"]) <= _HIGHEST_PORT:
        return None
    return found["host"].strip("[]"), int(found["port"])
