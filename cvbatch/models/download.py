"""Download a published file with obstore, which retries failures and resumes a broken transfer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvbatch.errors import ModelError, StorageError, UnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

Report = Callable[[str], None]
"""Called with a sentence that says what is waited for."""
_Advance = Callable[[int, int], None]
"""Called with the number of bytes received so far, and with the total."""

_CLIENT: Final[ClientConfig] = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(hours=12),
}
_RETRIES: Final[RetryConfig] = {"max_retries": 3, "backoff": {"max_backoff": timedelta(seconds=5)}}
_CHUNK_BYTES: Final = 2 << 20


def download_once(url: str, target: Path, check: Callable[[Path], object], report: Report | None = None) -> None:
    """Download a file once for all processes; resume an unfinished download of an earlier process.

    Args:
        url: Where it is published.
        target: Path of the complete, checked file; its folder is created.
        check: Raises ModelError if the file is not the published one; the file is deleted then.
        report: Called with the progress; if None, a bar is shown where standard error is a terminal.

    Raises:
        ModelError: `check` refuses the file.
        FileNotFoundError: The server has no such file.
        UnavailableError: There is no usable response after all retries; received bytes are kept for the next attempt.
        StorageError: The server refuses the request, or answers wrongly.
        OSError: The file cannot be written.
    """
    from filelock import FileLock  # most runs download nothing

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{target}.lock")
    with FileLock(lock):
        if not target.is_file():
            part = target.with_name(f"{target.name}.part")
            with _report_progress(target.name, report) as advance:
                _complete_part(url, part, check, advance)
            part.replace(target)
        lock.unlink(missing_ok=True)  # a process that waits for the lock finds the file


def _complete_part(url: str, part: Path, check: Callable[[Path], object], advance: _Advance) -> None:
    """Fetch the missing bytes; if the resumed file fails the check, start from the beginning."""
    from cvbatch.storage.interruptible import run_interruptible

    resumed = part.exists()
    try:
        run_interruptible(lambda: _append_range(url, part, advance))
        check(part)
    except UnavailableError:
        raise
    except (ModelError, StorageError):
        part.unlink(missing_ok=True)
        if not resumed:
            raise
        _complete_part(url, part, check, advance)


def _append_range(url: str, part: Path, advance: _Advance) -> None:
    import obstore
    from obstore.store import HTTPStore

    from cvbatch.storage.error_mapping import map_storage_errors

    folder, _, name = url.rpartition("/")
    start = part.stat().st_size if part.exists() else 0
    with map_storage_errors(url):
        store = HTTPStore.from_url(folder, client_options=_CLIENT, retry_config=_RETRIES)
        response = obstore.get(store, name, options={"range": {"offset": start}} if start else None)
        chunks = response.stream(min_chunk_size=_CHUNK_BYTES)
    with part.open("ab") as file:
        while True:
            with map_storage_errors(url):
                chunk = next(chunks, None)
            if chunk is None:
                return
            file.write(chunk)
            advance(file.tell(), response.meta["size"])


@contextlib.contextmanager
def _report_progress(name: str, report: Report | None) -> Iterator[_Advance]:
    if report is not None:
        yield lambda done, total: report(f"getting {name}, {done / 1e6:.0f} of {total / 1e6:.0f} MB")
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name)
        yield lambda done, total: bar.update(task, completed=done, total=total)
