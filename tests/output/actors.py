"""Drivers that take turns at one store in memory, request by request, with faults on purpose."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeVar

from cvbatch.errors import CorruptionError, FencedError, RunError
from cvbatch.output.store import AmbiguousError

T = TypeVar("T")


class Died(BaseException):
    """The process is gone; nothing may catch this."""


class Refused(RunError):
    """The store says no, or is given up."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request."""

    effect: Literal["now", "never", "later", "twice"] = "now"
    """`twice` is now, and once more later: a request that was repeated on the way."""
    outcome: Literal["answer", "no answer", "error", "death"] = "answer"
    """What the one who asked gets to know."""


FAULTS = (
    Fault("never", "death"),
    Fault("now", "death"),
    Fault("later", "death"),
    Fault("never", "no answer"),
    Fault("now", "no answer"),
    Fault("later", "no answer"),
    Fault("never", "error"),
    Fault("now", "error"),
    Fault("later", "error"),
    Fault("twice", "answer"),
)


class Objects:
    """A store in memory; every request takes effect in one moment."""

    def __init__(self) -> None:
        self.root = "memory"
        self.content: dict[str, bytes] = {}
        self.born: dict[str, int] = {}
        """When an object came to be, in requests."""
        self.author: Actor | None = None
        """Whose request takes effect now; None for one that is late."""
        self.authors: dict[str, Actor | None] = {}
        self.late: list[Callable[[], object]] = []
        """Requests that are still on their way."""
        self._moment = 0

    def read(self, name: str) -> bytes:
        try:
            return self.content[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read(name))

    def put(self, name: str, data: bytes) -> None:
        self._moment += 1
        self.content[name], self.born[name], self.authors[name] = data, self._moment, self.author

    def create(self, name: str, data: bytes) -> bool:
        absent = name not in self.content
        if absent:
            self.put(name, data)
        return absent

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        write("")
        return self.add(name)

    def add(self, name: str) -> int:
        """Publish a data file; what it holds is of no interest here."""
        if not self.create(name, b"rows"):
            raise CorruptionError(f"{name} is there already")
        return len(self.content[name])

    def sizes(self, folder: str, after: str = "") -> dict[str, int]:
        start = len(folder) + 1
        inside = (name for name in self.content if name.startswith(f"{folder}/") and "/" not in name[start:])
        inside = (name for name in inside if name > after)
        return {name: len(self.content[name]) for name in sorted(inside)}

    def delete(self, name: str) -> bool:
        self.content.pop(name, None)
        return True


class Actor:
    """A thread that gets on only as far as it is let.

    Args:
        wire: Its way to the store; it belongs to this actor from now on.
        work: What it does.
    """

    def __init__(self, wire: Wire, work: Callable[[], object]) -> None:
        wire.actor = self
        self.over = False
        self.error: BaseException | None = None
        self._requests = 0
        self._fault: Fault | None = None
        self._turn, self._rest = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._rest.acquire()

    @property
    def orderly(self) -> bool:
        """Whether it came to its end, or gave way to a newer driver."""
        return self.over and (self.error is None or isinstance(self.error, FencedError))

    def go(self, requests: int, fault: Fault | None = None) -> None:
        """Let it make some requests, and then perhaps one with a fault."""
        if self.over:
            return
        self._requests, self._fault = requests, fault
        self._turn.release()
        self._rest.acquire()

    def kill(self) -> None:
        """Whatever it asks for next, it is gone."""
        while not self.over:
            self.go(0, Fault("never", "death"))
        self._thread.join()

    def ask(self) -> Fault:
        """Called by its own thread before each request; returns when it is its turn."""
        while not self._requests and self._fault is None:
            self._rest.release()
            self._turn.acquire()
        if self._requests:
            self._requests -= 1
            return Fault()
        fault, self._fault = self._fault, None
        assert fault is not None, "the loop has ended"
        return fault

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self.error = error
        self.over = True
        self._rest.release()


class Wire:
    """The store as one actor sees it."""

    actor: Actor

    def __init__(self, objects: Objects) -> None:
        self.root = objects.root
        self._objects = objects

    def read_object(self, name: str) -> bytes:
        return self._request(lambda: self._objects.read(name))

    def open_object(self, name: str) -> BinaryIO:
        return self._request(lambda: self._objects.open(name))

    def put_object(self, name: str, data: bytes) -> None:
        self._request(lambda: self._objects.put(name, data), changes=True)

    def create_object(self, name: str, data: bytes) -> bool:
        return self._request(lambda: self._objects.create(name, data), changes=True, unanswered=AmbiguousError)

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        write("")
        return self._request(lambda: self._objects.add(name), changes=True)

    def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
        """A listing is not one moment: half of the names are as they were a little earlier."""
        early = self._request(lambda: self._objects.sizes(folder, after))
        found = self._request(lambda: self._objects.sizes(folder, after))
        halves = {name: size for name, size in early.items() if _first_half(name)}
        halves |= {name: size for name, size in found.items() if not _first_half(name)}
        return dict(sorted(halves.items()))

    def delete_object(self, name: str) -> bool:
        return self._request(lambda: self._objects.delete(name), changes=True)

    def _request(self, effect: Callable[[], T], *, changes: bool = False, unanswered: type[Exception] = Refused) -> T:
        fault = self.actor.ask()
        if changes and fault.effect in ("later", "twice"):
            self._objects.late.append(effect)
        if fault.effect in ("now", "twice"):
            self._objects.author = self.actor
            try:
                answer = effect()
            finally:
                self._objects.author = None
            if fault.outcome == "answer":
                return answer
        raise {"death": Died, "no answer": unanswered, "error": Refused}[fault.outcome]("on purpose")


def _first_half(name: str) -> bool:
    return zlib.crc32(name.encode()) % 2 == 0
