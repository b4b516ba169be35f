"""Tables with our own rows and with rows from entry points of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from cvbatch.errors import UsageError, try_call


class HasName(Protocol):
    """An object with a name."""

    @property
    def name(self) -> str:
        """The name of the row."""
        ...


Row = TypeVar("Row", bound=HasName)


class PluginTable(Mapping[str, Row]):
    """Rows by name, our own first.

    Entry points are searched only for a name that is not ours, or when all names are listed; each is loaded when its
    row is used. So every process with the package installed has the row: the driver, and the workers on all machines.

    Args:
        group: Group of the entry points; each refers to a subclass of `row_type`, under the `name` of that class.
        row_type: Class of the rows.
        rows: Our own rows.
    """

    def __init__(self, group: str, row_type: type[Row], rows: Iterable[Row]) -> None:
        self._group, self._row_type = group, row_type
        self._rows = {row.name: row for row in rows}
        self._own = tuple(self._rows)

    def __getitem__(self, name: str) -> Row:
        """Return the row of this name.

        Raises:
            KeyError: There is no such row.
            UsageError: The entry point of this name cannot be loaded, or is not a `row_type`.
        """
        if name not in self._rows:
            entry_point = self._entry_points().get(name)
            if entry_point is None:
                raise KeyError(name)
            self._rows[name] = self._load_entry_point(entry_point)
        return self._rows[name]

    def own_rows(self) -> list[Row]:
        """Our own rows; nothing of another package is loaded."""
        return [self._rows[name] for name in self._own]

    def __contains__(self, name: object) -> bool:
        """Whether the row exists; it is not loaded."""
        return name in self._rows or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._entry_points() if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _entry_points(self) -> dict[str, EntryPoint]:
        return _search_entry_points(self._group, tuple(sys.path))

    def _load_entry_point(self, point: EntryPoint) -> Row:
        description = f"entry point {point.name} = {point.value} in the group {self._group}"
        row = try_call(lambda: point.load()())
        if isinstance(row, Exception):
            raise UsageError(f"{description}: {type(row).__name__}: {row}: fix the package, or uninstall it") from row
        if not isinstance(row, self._row_type) or row.name != point.name:
            expected = f"a subclass of {self._row_type.__name__} whose name is {point.name!r}"
            raise UsageError(f"{description}: expected {expected}, got {row!r}: fix the package, or uninstall it")
        return row


@lru_cache(maxsize=8)
def _search_entry_points(group: str, search_path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Find the entry points of a group by name; as that reads a file of each installed package, once for a path."""
    return {point.name: point for point in entry_points(group=group)}
