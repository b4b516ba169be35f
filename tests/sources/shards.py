"""Small archives and tables, their rows in a plan, and the bytes or errors of these rows."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from cvbatch.config.job import SourceConfig
from cvbatch.errors import RowError, capture_row_error
from cvbatch.sources import open_source
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource
from cvbatch.sources.fetch.plan_rows import plan_fetches

Content = bytes | tarfile.TarInfo
IMAGES: dict[str, Content] = {"a.jpg": b"first", "b/c.PNG": b"second" * 200, "d.webp": b""}


def tar(path: Path, members: Mapping[str, Content] | Iterable[tuple[str, Content]], **options: Any) -> Path:
    """Write a tar; the suffix decides the compression."""
    data = tarred(members, mode="w:gz" if path.name.endswith("gz") else "w", **options)
    if path.name.endswith("zst"):
        import zstandard

        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def tarred(members: Mapping[str, Content] | Iterable[tuple[str, Content]], *, mode: str = "w", **options: Any) -> bytes:
    """The bytes of a tar; a `TarInfo` stands for anything but a file."""
    pairs = members.items() if isinstance(members, Mapping) else members
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, **options) as archive:  # type: ignore[call-overload]  # of many
        for name, content in pairs:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A link, a device, a FIFO or a folder."""
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def zipped(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def arrow(path: Path, table: pa.Table, *, rows: int | None = None, stream: bool = True, packed: bool = False) -> Path:
    """Write an Arrow stream, as `save_to_disk` does, or a file."""
    options = ipc.IpcWriteOptions(compression="zstd" if packed else None)
    new = ipc.new_stream if stream else ipc.new_file
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def images(contents: Iterable[bytes | None], paths: Iterable[str | None] | None = None) -> pa.Array:
    """A column of images as Hugging Face stores it."""
    contents = list(contents)
    paths = [None] * len(contents) if paths is None else list(paths)
    return pa.StructArray.from_arrays(
        [pa.array(contents, pa.binary()), pa.array(paths, pa.string())], names=["bytes", "path"]
    )


def saved(folder: Path, *shards: list[bytes]) -> None:
    """Write the files that `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    files = [f"data-{number:05d}-of-{len(shards):05d}.arrow" for number in range(len(shards))]
    for name, contents in zip(files, shards, strict=True):
        labels = pa.array(range(len(contents)), pa.int64())
        arrow(folder / name, pa.table({"image": images(contents), "label": labels}), rows=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text("{}")


def source(uri: Path | str, **options: Any) -> ImageSource:
    return open_source(SourceConfig(uri=str(uri), **options))


def planned(opened: ImageSource) -> pa.Table:
    """All rows, checked against the schema of the source."""
    schema = pa.schema([*ENTRY_FIELDS, *opened.extra_columns])
    chunks = list(opened.iter_chunks())
    assert all(chunk.schema.equals(schema) for chunk in chunks), [chunk.schema for chunk in chunks]
    return pa.concat_tables([schema.empty_table(), *chunks])


def names(table: pa.Table) -> list[str]:
    """The part of each URI after the name of the container."""
    return [uri.partition("#")[2] for uri in table["image_uri"].to_pylist()]


def fetched(table: pa.Table) -> list[bytes | RowError]:
    """The bytes or the error of each row, as a worker reads it."""
    return [capture_row_error("fetch", read) for read in plan_fetches(table)]


def kinds(table: pa.Table) -> list[bytes | str]:
    """The bytes of each row, or the type of its error; no error may be transient."""
    result = fetched(table)
    assert not any(isinstance(item, RowError) and item.transient for item in result)
    return [item.type if isinstance(item, RowError) else item for item in result]
