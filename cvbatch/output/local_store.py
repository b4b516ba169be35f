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
from cvbatch.output.create_claims import remove_claim
from cvbatch.output.disk_space import HIDDEN_PREFIX, move_into_place, sync_file, sync_folder
from cvbatch.output.exclusive_create import (
    CREATE_METHODS,
    LINK_METHOD,
    LINK_REFUSED_ERRNOS,
    CreateMethod,
    probe_create_method,
)
from cvbatch.system.formats import RecordFormat

TEMPORARY_FOLDER: Final = "_cvbatch/tmp"
_CLAIMS_FOLDER: Final = "_cvbatch/claims"
_METHOD_FILE: Final = "_cvbatch/created-with"
"""Object that names the method by which objects are created, if that is not hard links; all attempts must use the same.

Earlier versions wrote the bare name."""
_CREATED_WITH: Final = RecordFormat("way to create", dict[str, Any])
_RENAME_SECONDS: Final = 0.05
"""Pause before a second read, on disks where a rename over a file is not atomic."""
_OUTPUT_ERRNOS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
)


class LocalStore:
    """A folder on a disk.

    An object gets its final name only when it is complete and on the disk: it is written to a temporary name, synced,
    and linked (create) or renamed (put) to its final name. Disks without hard links use other methods to create; see
    `exclusive_create`.

    Args:
        root: Absolute path.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._method_name: str | None = None

    def local_path(self, name: str) -> Path:
        """Local path of an object."""
        return Path(self.root, name)

    def read_object(self, name: str) -> bytes:
        try:
            return self._read_once(name)
        except FileNotFoundError:
            if self._create_method.claim_kind is None:
                raise
        time.sleep(_RENAME_SECONDS)  # on disks that need claims a file may be missing while it is replaced
        return self._read_once(name)

    def _read_once(self, name: str) -> bytes:
        with self.open_object(name) as file:
            data: bytes = file.read()
            return data

    def open_object(self, name: str) -> pa.NativeFile:
        try:
            return pa.OSFile(str(self.local_path(name)))
        except NotADirectoryError:
            raise FileNotFoundError(errno.ENOENT, "no such object", name) from None
        except PermissionError:
            raise OutputError(f"{self.local_path(name)} cannot be read: permission denied") from None

    def put_object(self, name: str, data: bytes) -> None:
        with self._temporary_file(name) as temporary:
            Path(temporary).write_bytes(data)
            sync_file(temporary)
            move_into_place(temporary, self.local_path(name))
            sync_folder(self.local_path(name).parent)

    def create_object(self, name: str, data: bytes) -> bool:
        with self._temporary_file(name) as temporary:
            Path(temporary).write_bytes(data)
            sync_file(temporary)
            try:
                created = self._create_from(temporary, name)
            except OSError as error:
                if self._create_method is not LINK_METHOD or error.errno not in LINK_REFUSED_ERRNOS:
                    raise
                self._choose_method(f"{LINK_METHOD.title}: {error.strerror}")
                created = self._create_from(temporary, name)
            if created:
                sync_folder(self.local_path(name).parent)
            return created

    def _create_from(self, temporary: str, name: str) -> bool:
        method, target = self._create_method, self.local_path(name)
        return method.create_file(temporary, target, target if method.claim_kind is None else self._claim_path(name))

    def add_file(self, name: str, write: Callable[[str], None]) -> int:
        with self._temporary_file(name) as temporary:
            write(temporary)
            sync_file(temporary)
            size = os.path.getsize(temporary)
            if not self._add_unique(temporary, self.local_path(name)):
                raise CorruptionError(f"{self.root}/{name} exists already; expected a name that was never used")
            sync_folder(self.local_path(name).parent)
            return size

    def list_sizes(self, folder: str, start_after: str = "") -> dict[str, int]:
        try:
            names = sorted(name for name in os.listdir(self.local_path(folder)) if not name.startswith(HIDDEN_PREFIX))
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            raise OutputError(f"{self.root}: expected a folder, got a file; choose another output") from None
        sizes = {}
        for name in (name for name in names if f"{folder}/{name}" > start_after):
            with contextlib.suppress(FileNotFoundError):  # deleted after the listing
                file_stat = self.local_path(f"{folder}/{name}").stat()
                if stat.S_ISREG(file_stat.st_mode):
                    sizes[f"{folder}/{name}"] = file_stat.st_size
        return sizes

    def delete_object(self, name: str) -> bool:
        if self._create_method.claim_kind is not None:
            remove_claim(self._claim_path(name))
        self.local_path(name).unlink(missing_ok=True)
        return True

    def can_delete(self) -> bool:
        return True

    def check_writable(self) -> None:
        if self._create_method is not LINK_METHOD:
            return  # tested when it was chosen
        with self._temporary_file(_METHOD_FILE) as temporary:
            problem = self._test_method(LINK_METHOD, temporary)
        if problem is not None:
            self._choose_method(f"{LINK_METHOD.title}: {problem}")

    @property
    def _create_method(self) -> CreateMethod:
        """Method to create objects in this output; read once, since all processes of an attempt use the same disk."""
        if self._method_name is None:
            try:
                self._method_name = self._noted_method(self._read_once(_METHOD_FILE))
            except FileNotFoundError:
                self._method_name = LINK_METHOD.name
            if self._method_name not in CREATE_METHODS:
                raise OutputError(
                    f"{self.root}/{_METHOD_FILE}: expected one of {', '.join(CREATE_METHODS)}, got "
                    f"{self._method_name!r}; use a newer cvbatch"
                )
        return CREATE_METHODS[self._method_name]

    def _noted_method(self, content: bytes) -> str:
        if not content.startswith(b"{"):
            return content.decode().strip()
        return str(_CREATED_WITH.decode_record(content, f"{self.root}/{_METHOD_FILE}").get("way"))

    def _choose_method(self, link_problem: str) -> None:
        """Choose a method other than links that works on this disk, for this and all later attempts."""
        problems = [link_problem]
        for method in CREATE_METHODS.values():
            if method is LINK_METHOD:
                continue
            with self._temporary_file(_METHOD_FILE) as temporary:
                problem = self._test_method(method, temporary)
            if problem is None:
                self.put_object(_METHOD_FILE, _CREATED_WITH.encode_record({"way": method.name}))
                self._method_name = method.name
                return
            problems.append(f"{method.title}: {problem}")
        raise OutputError(
            f"{self.root}: expected a disk that can create a file only if its name is free, got one where no method "
            f"works ({'; '.join(problems)}); choose another output"
        )

    def _test_method(self, method: CreateMethod, temporary: str) -> str | None:
        name = f"_cvbatch/proof-{uuid.uuid4().hex}"
        try:
            return probe_create_method(method, temporary, self.local_path(name), self._claim_path(name))
        finally:
            with contextlib.suppress(OSError):
                self.local_path(name).unlink()
            remove_claim(self._claim_path(name))

    def _claim_path(self, name: str) -> Path:
        return self.local_path(f"{_CLAIMS_FOLDER}/{name.replace('/', '+')}")

    def _add_unique(self, temporary: str, target: Path) -> bool:
        """Give a file a name that is in no other use; False if the name is taken."""
        try:
            return LINK_METHOD.create_file(temporary, target, target)
        except OSError as error:
            if error.errno not in LINK_REFUSED_ERRNOS:
                raise
        if target.exists():
            return False
        move_into_place(temporary, target)
        return True

    @contextlib.contextmanager
    def _temporary_file(self, name: str) -> Iterator[str]:
        folder = self.local_path(TEMPORARY_FOLDER)
        temporary = folder / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.local_path(name).parent.mkdir(parents=True, exist_ok=True)
            yield str(temporary)
        except OSError as error:
            if error.errno in _OUTPUT_ERRNOS:
                raise OutputError(f"{self.root} cannot be written: {error.strerror}; choose another output") from None
            raise RunError(f"{self.root} cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
