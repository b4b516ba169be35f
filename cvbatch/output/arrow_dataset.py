"""Committed files as an Arrow dataset, on a disk or in a bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from cvbatch.output.log_records import DataFile
from cvbatch.output.store import LocalStore, Store


def open_dataset_files(store: Store, files: Sequence[DataFile], schema: pa.Schema) -> pads.Dataset:
    """Open committed files as one dataset.

    Args:
        store: The output.
        files: Sorted by row id.
        schema: Schema of all files.
    """
    if isinstance(store, LocalStore):
        return pads.dataset([f"{store.root}/{file.path}" for file in files], schema=schema, format="parquet")
    sizes = {file.path: file.size for file in files}
    filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(_StoreFilesystem(store, sizes)))
    return pads.dataset([file.path for file in files], schema=schema, format="parquet", filesystem=filesystem)


class _StoreFilesystem:
    """The part of a file system that Arrow needs to read; file sizes come from the log, without requests."""

    protocol = "cvbatch"

    def __init__(self, store: Store, sizes: Mapping[str, int]) -> None:
        self._store, self._sizes = store, sizes

    def info(self, path: str) -> dict[str, Any]:
        return {"name": path, "size": self._sizes[path], "type": "file"}

    def isfile(self, path: str) -> bool:
        return path in self._sizes

    def open(self, path: str, mode: str) -> pa.NativeFile:
        assert mode == "rb", "committed files are never changed"
        return self._store.open_object(path)
