"""Drivers that take turns on one store in memory, request by request, with injected faults."""

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
    """The process has ended; no code may catch this."""


class Refused(RunError):
    """The store refuses a request, or does not respond."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of one request."""

    effect: Literal["now", "never", "later", "twice"] = "now"
    """When the request takes effect; `twice` is now and again later, as if the network repeated it."""
    outcome: Literal["answer", "no answer", "error", "death"] = "answer"
    """What the caller gets."""


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
    """A store in memory; every request is atomic."""

    def __init__(self) -> None:
        self.root = "memory"
        self.content: dict[str, bytes] = {}
        self.born: dict[str, int] = {}
        """Time at which each object was created, counted in writes."""
        self.author: Actor | None = None
        """Actor whose request takes effect now; None for a late request."""
        self.authors: dict[str, Actor | None] = {}
        self.late: list[Callable[[], object]] = []
        """Requests that have not taken effect yet."""
        self._moment = 0

    def read_object(self, name: str) -> bytes:
        try:
            return self.content[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def open_object(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read_object(name))

    def put_object(self, name: str, data: bytes) -> None:
        self._moment += 1
        self.content[name], self.born[name], self.authors[name] = data, self._moment, self.author

    def create_object(self, name: str, data: bytes) -> bool:
        absent = name not in self.content
        if absent:
            self.put_object(name, data)
        return absent

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        write("")
        return self.add(name)

    def add(self, name: str) -> int:
        """Publish a data file; its content does not matter for the protocol."""
        if not self.create_object(name, b"rows"):
            raise CorruptionError(f"{name} exists already")
        return len(self.content[name])

    def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
        start = len(folder) + 1
        inside = (name for name in self.content if name.startswith(f"{folder}/") and "/" not in name[start:])
        inside = (name for name in inside if name > after)
        return {name: len(self.content[name]) for name in sorted(inside)}

    def delete_object(self, name: str) -> bool:
        self.content.pop(name, None)
        return True


class Actor:
    """A thread that makes only as many requests as the test allows.

    Args:
        wire: Its connection to the store; it belongs to this actor from now on.
        work: Work to do in the thread.
    """

    def __init__(self, wire: Wire, work: Callable[[], object]) -> None:
        wire.actor = self
        self.has_ended = False
        self.error: BaseException | None = None
        self._requests = 0
        self._fault: Fault | None = None
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._paused.acquire()

    @property
    def orderly(self) -> bool:
        """Whether it has ended normally, or was fenced off by a newer driver."""
        return self.has_ended and (self.error is None or isinstance(self.error, FencedError))

    def go(self, requests: int, fault: Fault | None = None) -> None:
        """Let it make some requests, and then perhaps one with a fault."""
        if self.has_ended:
            return
        self._requests, self._fault = requests, fault
        self._turn.release()
        self._paused.acquire()

    def kill(self) -> None:
        """Let it die at its next request."""
        while not self.has_ended:
            self.go(0, Fault("never", "death"))
        self._thread.join()

    def ask(self) -> Fault:
        """Called by its own thread before each request; returns when it is its turn."""
        while not self._requests and self._fault is None:
            self._paused.release()
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
        self.has_ended = True
        self._paused.release()


class Wire:
    """The store as one actor sees it."""

    actor: Actor

    def __init__(self, objects: Objects) -> None:
        self.root = objects.root
        self._objects = objects

    def read_object(self, name: str) -> bytes:
        return self._request(lambda: self._objects.read_object(name))

    def open_object(self, name: str) -> BinaryIO:
        return self._request(lambda: self._objects.open_object(name))

    def put_object(self, name: str, data: bytes) -> None:
        self._request(lambda: self._objects.put_object(name, data), changes=True)

    def create_object(self, name: str, data: bytes) -> bool:
        return self._request(lambda: self._objects.create_object(name, data), changes=True, unanswered=AmbiguousError)

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        write("")
        return self._request(lambda: self._objects.add(name), changes=True)

    def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
        """List without atomicity: half of the names are from a slightly earlier moment."""
        early_sizes = self._request(lambda: self._objects.list_sizes(folder, after))
        late_sizes = self._request(lambda: self._objects.list_sizes(folder, after))
        sizes = {name: size for name, size in early_sizes.items() if _first_half(name)}
        sizes |= {name: size for name, size in late_sizes.items() if not _first_half(name)}
        return dict(sorted(sizes.items()))

    def delete_object(self, name: str) -> bool:
        return self._request(lambda: self._objects.delete_object(name), changes=True)

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
