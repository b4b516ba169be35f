"""Processes that die at each step of a creation, and the next process that creates the same object.

    python -m tests.output.dying FOLDER METHOD

prints a line of JSON for each step: whether the next process created the object, and the content of the object.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from cvbatch.errors import AmbiguousError
from cvbatch.output import create_claims
from cvbatch.output.local_store import LocalStore

DEAD, ALIVE = b'{"by": "the dead"}', b'{"by": "the living"}'
_STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link")
_LONGEST = 80


def main(folder: str, method: str) -> None:
    create_claims._TORN_CLAIM_SECONDS, create_claims._PUBLISH_WAIT_SECONDS, create_claims._POLL_SECONDS = 0.1, 0.1, 0.02
    for step in range(1, _LONGEST):
        store, name = LocalStore(folder), f"_cvbatch/log/{step:010d}.json"
        store._method_name = method
        if survived := _die(store, name, step):
            assert store.read_object(name) == DEAD
        created, content = _create(store, name), store.read_object(name).decode()
        print(json.dumps({"step": step, "created": created, "content": content, "again": _create(store, name)}))
        if survived:
            return


def _die(store: LocalStore, name: str, step: int) -> bool:
    """Let a child process create an object and die at a step; true if it ended before that step."""
    child = os.fork()
    if child == 0:
        steps_left = step

        def count(event: str, _: Any) -> None:
            nonlocal steps_left
            if event in _STEPS:
                steps_left -= 1
                if steps_left == 0:
                    os._exit(1)

        sys.addaudithook(count)
        store.create_object(name, DEAD)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _create(store: LocalStore, name: str) -> bool:
    while True:
        try:
            return store.create_object(name, ALIVE)
        except AmbiguousError:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
