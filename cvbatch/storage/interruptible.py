"""Runs native calls so that signals interrupt them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from cvbatch.errors import StorageError, try_call

T = TypeVar("T")


def run_interruptible(work: Callable[[], T]) -> T:
    """Do native work that may take long, so that Ctrl-C and SIGTERM interrupt it.

    Python handles signals only in the main thread, and only while that thread runs Python code. So in the main thread
    the work runs in a new daemon thread, which is abandoned when a signal arrives; other threads do it directly.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcomes: list[T | Exception] = []
    thread = threading.Thread(target=lambda: outcomes.append(try_call(work)), name="object store", daemon=True)
    thread.start()
    thread.join()
    if not outcomes:
        raise StorageError("the client of the object store failed")
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    return outcomes[0]
