"""Waiting so that a signal is heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from cvbatch.errors import StorageError, try_call

T = TypeVar("T")


def run_interruptible(work: Callable[[], T]) -> T:
    """Do native work that may take long, so that Ctrl-C and SIGTERM are heard meanwhile.

    Signals are handled by the main thread alone, and only while it runs Python. There the work goes to a thread of
    its own, which is left behind when a signal ends the waiting; other threads do it themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    answers: list[T | Exception] = []
    thread = threading.Thread(target=lambda: answers.append(try_call(work)), name="object store", daemon=True)
    thread.start()
    thread.join()
    if not answers:
        raise StorageError("the client of the object store failed")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]
