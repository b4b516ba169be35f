"""A local store whose requests time out, or during which something else happens."""

from __future__ import annotations

from collections.abc import Callable

from cvbatch.output.store import AmbiguousError, LocalStore


class Failing(LocalStore):
    """The first creations seem to fail.

    Args:
        root: As for `LocalStore`.
        failures: How many.
        takes_effect: Whether they took effect all the same.
        before_retry: What happens before each is repeated.
    """

    def __init__(
        self, root: str, *, failures: int, takes_effect: bool, before_retry: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(root)
        self.failures = failures
        self.takes_effect = takes_effect
        self._before_retry = before_retry

    def create_object(self, name: str, data: bytes) -> bool:
        if not self.failures:
            return super().create_object(name, data)
        self.failures -= 1
        if self.takes_effect:
            super().create_object(name, data)
        self._before_retry()
        raise AmbiguousError("timed out")


class Overtaken(LocalStore):
    """Right before one of its own requests, something else happens, once.

    Args:
        root: As for `LocalStore`.
        request: `create`, `delete` or `read`.
        name: Of the object.
        event: What happens.
    """

    def __init__(self, root: str, request: str, name: str, event: Callable[[], object]) -> None:
        super().__init__(root)
        self._waiting = (request, name)
        self._event: Callable[[], object] | None = event

    def create_object(self, name: str, data: bytes) -> bool:
        self._happen("create", name)
        return super().create_object(name, data)

    def delete_object(self, name: str) -> bool:
        self._happen("delete", name)
        return super().delete_object(name)

    def read_object(self, name: str) -> bytes:
        self._happen("read", name)
        return super().read_object(name)

    def _happen(self, request: str, name: str) -> None:
        if self._event is not None and (request, name) == self._waiting:
            event, self._event = self._event, None
            event()
