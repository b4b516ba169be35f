"""Committed files as an Arrow dataset, wherever they are."""

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
        files: In the order of their rows.
        schema: Of all of them.
    """
    if isinstance(store, LocalStore):
        return pads.dataset([f"{store.root}/{file.path}" for file in files], schema=schema, format="parquet")
    system = pafs.PyFileSystem(pafs.FSSpecHandler(_StoreFilesystem(store, {file.path: file.size for file in files})))
    return pads.dataset([file.path for file in files], schema=schema, format="parquet", filesystem=system)


class _StoreFilesystem:
    """As much of a file system as Arrow needs to read; what is known of the files is not asked for again."""

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
