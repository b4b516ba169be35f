"""The store of a run on a disk."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import CorruptionError, OutputError, RunError
from cvbatch.output.create_claims import drop
from cvbatch.output.disk_space import HIDDEN, move, sync_file, sync_folder
from cvbatch.output.exclusive_create import LINK, LINK_REFUSED, WAYS, Way, prove
from cvbatch.system.formats import Format

TEMPORARY: Final = "_cvbatch/tmp"
_CLAIMS: Final = "_cvbatch/claims"
_MARK: Final = "_cvbatch/created-with"
"""Names the way in which objects are created here, where that is not by links: all starts must use the same.

Earlier versions wrote the bare name."""
_CREATED_WITH: Final = Format("way to create", dict[str, Any])
_MOMENT_SECONDS: Final = 0.05
_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG})


class LocalStore:
    """A folder on a disk.

    Nothing ever lies under its final name unless it is whole and on the disk: objects are written to a
    temporary name, synced, and linked (create) or renamed (put) into place. Disks without links have other ways to
    create; see `exclusive`.

    Args:
        root: Absolute path.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._known: str | None = None

    def path(self, name: str) -> Path:
        """Local path of an object."""
        return Path(self.root, name)

    def read(self, name: str) -> bytes:
        try:
            return self._read(name)
        except FileNotFoundError:
            if self._way.kind is None:
                raise
        time.sleep(_MOMENT_SECONDS)  # disks that need claims may take a moment to rename one file over another
        return self._read(name)

    def _read(self, name: str) -> bytes:
        with self.open(name) as file:
            data: bytes = file.read()
            return data

    def open(self, name: str) -> pa.NativeFile:
        try:
            return pa.OSFile(str(self.path(name)))
        except NotADirectoryError:
            raise FileNotFoundError(errno.ENOENT, "no such object", name) from None
        except PermissionError:
            raise OutputError(f"{self.path(name)} cannot be read: permission denied") from None

    def put(self, name: str, data: bytes) -> None:
        with self._temporary(name) as temporary:
            Path(temporary).write_bytes(data)
            sync_file(temporary)
            move(temporary, self.path(name))
            sync_folder(self.path(name).parent)

    def create(self, name: str, data: bytes) -> bool:
        with self._temporary(name) as temporary:
            Path(temporary).write_bytes(data)
            sync_file(temporary)
            try:
                created = self._place(temporary, name)
            except OSError as error:
                if self._way is not LINK or error.errno not in LINK_REFUSED:
                    raise
                self._settle(f"{LINK.title}: {error.strerror}")
                created = self._place(temporary, name)
            if created:
                sync_folder(self.path(name).parent)
            return created

    def _place(self, temporary: str, name: str) -> bool:
        way, target = self._way, self.path(name)
        return way.place(temporary, target, target if way.kind is None else self._claim_on(name))

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        with self._temporary(name) as temporary:
            write(temporary)
            sync_file(temporary)
            size = os.path.getsize(temporary)
            if not self._add(temporary, self.path(name)):
                raise CorruptionError(f"{self.root}/{name} is there already; names are never used twice")
            sync_folder(self.path(name).parent)
            return size

    def sizes(self, folder: str, after: str = "") -> dict[str, int]:
        try:
            names = sorted(name for name in os.listdir(self.path(folder)) if not name.startswith(HIDDEN))
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            raise OutputError(f"{self.root}: expected a folder, and a file is there; choose another output") from None
        found = {}
        for name in (name for name in names if f"{folder}/{name}" > after):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                fact = self.path(f"{folder}/{name}").stat()
                if stat.S_ISREG(fact.st_mode):
                    found[f"{folder}/{name}"] = fact.st_size
        return found

    def delete(self, name: str) -> bool:
        if self._way.kind is not None:
            drop(self._claim_on(name))
        self.path(name).unlink(missing_ok=True)
        return True

    def may_delete(self) -> bool:
        return True

    def check(self) -> None:
        if self._way is not LINK:
            return  # proven when it was read or chosen
        with self._temporary(_MARK) as temporary:
            trouble = self._proven(LINK, temporary)
        if trouble is not None:
            self._settle(f"{LINK.title}: {trouble}")

    @property
    def _way(self) -> Way:
        """How objects are created here; found out once, as all processes of a start see the same disk."""
        if self._known is None:
            try:
                self._known = self._noted(self._read(_MARK))
            except FileNotFoundError:
                self._known = LINK.name
            if self._known not in WAYS:
                raise OutputError(f"{self.root}/{_MARK} is not known: {self._known!r}; use a newer cvbatch")
        return WAYS[self._known]

    def _noted(self, content: bytes) -> str:
        if not content.startswith(b"{"):
            return content.decode().strip()
        return str(_CREATED_WITH.decode(content, f"{self.root}/{_MARK}").get("way"))

    def _settle(self, why: str) -> None:
        """Choose another way than by links, one that is proven here, for this and all later starts."""
        tried = [why]
        for way in WAYS.values():
            if way is LINK:
                continue
            with self._temporary(_MARK) as temporary:
                trouble = self._proven(way, temporary)
            if trouble is None:
                self.put(_MARK, _CREATED_WITH.encode({"way": way.name}))
                self._known = way.name
                return
            tried.append(f"{way.title}: {trouble}")
        raise OutputError(
            f"{self.root}: expected a disk on which a file can be created only if it is not there, and this one has no "
            f"way to ({'; '.join(tried)}); choose another output"
        )

    def _proven(self, way: Way, temporary: str) -> str | None:
        name = f"_cvbatch/proof-{uuid.uuid4().hex}"
        try:
            return prove(way, temporary, self.path(name), self._claim_on(name))
        finally:
            with contextlib.suppress(OSError):
                self.path(name).unlink()
            drop(self._claim_on(name))

    def _claim_on(self, name: str) -> Path:
        return self.path(f"{_CLAIMS}/{name.replace('/', '+')}")

    def _add(self, temporary: str, target: Path) -> bool:
        """Give a file a name that nobody else has."""
        try:
            return LINK.place(temporary, target, target)
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
        if target.exists():
            return False
        move(temporary, target)
        return True

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[str]:
        folder = self.path(TEMPORARY)
        temporary = folder / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            yield str(temporary)
        except OSError as error:
            if error.errno in _REFUSALS:
                raise OutputError(f"{self.root} cannot be written: {error.strerror}; choose another output") from None
            raise RunError(f"{self.root} cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
