"""The rules of the commit protocol hold on disks without hard links, too."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

import pytest

from cvbatch.output.local_store import LocalStore
from tests.output.actors import Objects
from tests.output.test_exclusive_create import Disk
from tests.output.test_protocol import Protocol, explore, quick
from tests.rigs.mounts import Refusals, mounted

__all__ = ["quick"]
OF_THE_DISK = ("_cvbatch/tmp/", "_cvbatch/claims/", "_cvbatch/created-with")


class Files(MutableMapping[str, bytes]):
    """The objects of a store by their names."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def __getitem__(self, name: str) -> bytes:
        try:
            return self._store.read_object(name)
        except FileNotFoundError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, data: bytes) -> None:
        self._store.put_object(name, data)

    def __delitem__(self, name: str) -> None:
        self._store.delete_object(name)

    def __contains__(self, name: object) -> bool:
        return self._store.local_path(str(name)).exists()

    def __iter__(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._store.root):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self._store.root)
                if not path.startswith(OF_THE_DISK):
                    yield path

    def __len__(self) -> int:
        return len(list(iter(self)))


class OnDisk(Objects):
    """The store of the model, on a disk instead of in memory."""

    def __init__(self, root: Path, way: str | None) -> None:
        super().__init__()
        self.store = LocalStore(str(root))
        self.store._method_name = way
        self.content = Files(self.store)  # type: ignore[assignment] - it is used as a mapping only

    def create_object(self, name: str, data: bytes) -> bool:
        created = self.store.create_object(name, data)
        if created:
            self._moment += 1
            self.born[name], self.authors[name] = self._moment, self.author
        return created

    def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
        return {name: size for name, size in self.store.list_sizes(folder, after).items() if name not in OF_THE_DISK}

    def delete_object(self, name: str) -> bool:
        return self.store.delete_object(name)


def machine(disk: Path) -> type[Protocol]:
    """Each example gets a folder of its own."""
    first = LocalStore(str(disk / "first"))
    first.check_writable()
    assert first._method_name != "link"

    class Mounted(Protocol):
        new_objects: Callable[[], Objects] = staticmethod(lambda: OnDisk(disk / uuid.uuid4().hex, first._method_name))

    return Mounted


@pytest.mark.parametrize("ways", [["link", "rename"], ["link", "rename", "folder"]])
def test_where_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    Disk(monkeypatch).refuses(errno.EPERM, *ways)
    explore(2, 20, machine(tmp_path))


@pytest.mark.parametrize(
    "refusals", [Refusals(), pytest.param(Refusals(rename_folder=errno.EPERM), marks=pytest.mark.slow)]
)
def test_on_a_mount_without_links(tmp_path: Path, refusals: Refusals) -> None:
    with mounted(tmp_path, refusals) as disk:
        explore(2, 20, machine(disk))


@pytest.mark.slow
def test_on_a_mount_without_links_for_long(tmp_path: Path) -> None:
    with mounted(tmp_path, Refusals()) as disk:
        explore(100, 40, machine(disk))
