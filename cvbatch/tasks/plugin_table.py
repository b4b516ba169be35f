"""Tables that other packages may add rows to: our own rows, and those of entry points of installed packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from cvbatch.errors import UsageError, try_call


class HasName(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """The name of the row."""
        ...


Row = TypeVar("Row", bound=HasName)


class PluginTable(Mapping[str, Row]):
    """Rows by name, our own first.

    Entry points are looked for only when a name is not ours, or all names are asked for, and loaded when their row is.
    So every process that has the package installed has the row: the driver, and the workers on all machines.

    Args:
        group: Of the entry points; each names a subclass of `row_type`, under the `name` of that.
        row_type: What the rows are.
        rows: Our own.
    """

    def __init__(self, group: str, row_type: type[Row], rows: Iterable[Row]) -> None:
        self._group, self._row_type = group, row_type
        self._rows = {row.name: row for row in rows}
        self._own = tuple(self._rows)

    def __getitem__(self, name: str) -> Row:
        """The row of this name.

        Raises:
            KeyError: There is none.
            UsageError: An entry point of this name cannot be loaded, or is something else.
        """
        if name not in self._rows:
            found = self._entry_points().get(name)
            if found is None:
                raise KeyError(name)
            self._rows[name] = self._load_entry_point(found)
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a row; none is loaded for that."""
        return name in self._rows or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._entry_points() if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self._group)}

    def _load_entry_point(self, point: EntryPoint) -> Row:
        what = f"entry point {point.name} = {point.value} in the group {self._group}"
        made = try_call(lambda: point.load()())
        if isinstance(made, Exception):
            raise UsageError(f"{what}: {type(made).__name__}: {made}: mend the package, or uninstall it") from made
        if not isinstance(made, self._row_type) or made.name != point.name:
            expected = f"a subclass of {self._row_type.__name__} whose name is {point.name!r}"
            raise UsageError(f"{what}: expected {expected}, got {made!r}: mend the package, or uninstall it")
        return made
