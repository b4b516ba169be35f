"""Several that create the same object at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable


def winners(create: Callable[[bytes], bool]) -> list[bytes]:
    """Let eight threads create an object at once; what those wrote that were told they had created it."""
    won: list[bytes] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        if create(str(number).encode()):
            won.append(str(number).encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won
