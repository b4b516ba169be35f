"""A DuckDB connection with the views of a run, and its errors in one line."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cvbatch.errors import OutputError, UsageError
from cvbatch.results.committed import Output, Storage, open_output
from cvbatch.results.sql.view_dataset import ViewDataset
from cvbatch.results.sql.views import ELEMENT_VIEWS, make_views
from cvbatch.system.control_group import available_memory, usable_cores
from cvbatch.system.extras import import_extra

if TYPE_CHECKING:
    import duckdb

_SHARE_OF_MEMORY: Final = 0.5
"""Of what is free; the rest is for Arrow and for the result."""
_LONGEST_ERROR: Final = 400
_PLACE_OF_ERROR: Final = re.compile(r"\n+LINE \d+:.*", re.DOTALL)
_FOREIGN_ADVICE: Final = re.compile(r"\n+(?:Possible solutions|For more info|See also|Did you mean).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RunConnection:
    """A connection, with what its errors are explained by."""

    duckdb: duckdb.DuckDBPyConnection
    views: Mapping[str, ViewDataset]
    max_bytes: int
    """Most memory that DuckDB takes before it uses the disk."""


def open_sql(
    output: Output,
    *,
    tables: Mapping[str, Any] | None = None,
    max_bytes: int | None = None,
    storage: Storage = None,
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB connection that has the rows of a run as views.

    `images` has all columns. `detections` has a row for each box and `segments` one for each class in an image, with
    all columns of the image that are no lists; if a run has several models of the task, the views are called
    `detections_ALIAS`. Each scan reads the files anew, and only the columns that the query names.

    Args:
        output: The output location.
        tables: More tables by name: frames of pandas or Polars, Arrow tables or datasets.
        max_bytes: Most memory that DuckDB takes before it writes to the folder for temporary files; None for half of
            what is free.
        storage: As for `read`.

    Returns:
        The connection. It answers over what is committed when it is opened, and can do all that DuckDB can.

    Raises:
        OutputError: If there is no run.
        UsageError: If DuckDB is missing, or a table has the name of a view.
    """
    return connect_to_run(output, tables=tables, max_bytes=max_bytes, storage=storage).duckdb


def connect_to_run(
    output: Output,
    *,
    tables: Mapping[str, Any] | None = None,
    max_bytes: int | None = None,
    storage: Storage = None,
    finds_variables: bool = True,
) -> RunConnection:
    """Open a connection; see `open_sql`.

    Args:
        output: The output location.
        tables: More tables by name.
        max_bytes: Most memory of DuckDB.
        storage: As for `read`.
        finds_variables: Whether a query can name variables of the calling code as tables.
    """
    module = import_extra("duckdb", "duckdb", "SQL over a run")
    views = make_views(open_output(output, storage))
    for name in set(views) & {name.lower() for name in tables or {}}:
        raise UsageError(f"a table cannot be called {name!r}: that is a view of the run; choose another name")
    limit = int(available_memory() * _SHARE_OF_MEMORY) if max_bytes is None else max_bytes
    connection = module.connect(
        config={
            "memory_limit": f"{limit}B",
            "threads": usable_cores(),
            # DuckDB makes this folder when it needs it, and removes it in the end
            "temp_directory": os.path.join(tempfile.gettempdir(), f"cvbatch-sql-{uuid.uuid4().hex}"),
            "autoinstall_known_extensions": False,
            "python_enable_replacements": finds_variables,
        }
    )
    for name, table in {**views, **(tables or {})}.items():
        connection.register(name, table)
    return RunConnection(connection, views, limit)


@contextlib.contextmanager
def explained_errors(connection: RunConnection) -> Iterator[None]:
    """Turn errors of DuckDB into errors of one line.

    Raises:
        CvbatchError: What stopped the reading of a view.
        OutputError: If the query needs more memory than there is.
        UsageError: If the query is wrong.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        failures = (view.failure for view in connection.views.values())
        failure = next((failure for failure in failures if failure is not None), None)
        if failure is not None:
            raise failure from None
        if isinstance(error, duckdb.OutOfMemoryException):
            raise OutputError(
                f"the query needs more than {connection.max_bytes / 1e9:.3g} GB of memory, and could not use the disk "
                "instead; name fewer columns, add a condition or a LIMIT, or group in two steps"
            ) from None
        hint = f"; {describe_views(connection.views)}" if isinstance(error, duckdb.CatalogException) else ""
        raise UsageError(f"the query: {_one_line(str(error))}{hint}") from None
    except RuntimeError as error:
        if "interrupted" in str(error):
            raise KeyboardInterrupt from None
        raise


def describe_views(views: Mapping[str, ViewDataset]) -> str:
    """The views of a run in words, and why some may be missing."""
    text = f"this run has the views {', '.join(views)}"
    missing = [name for name in ELEMENT_VIEWS.values() if not any(view.startswith(name) for view in views)]
    return text + "".join(f", and no model that gives {name}" for name in missing)


def _one_line(message: str) -> str:
    text = _FOREIGN_ADVICE.sub("", _PLACE_OF_ERROR.sub("", message))
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]} …"
