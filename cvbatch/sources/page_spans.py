"""How the plan names a page: its span is that of its file, with the number of the page behind `how`.

`how` is `#3` for page 3 of a whole file, `tar#3` for one of a member of a tar. For earlier versions, which know no
pages, the span says as well that it is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from cvbatch.images.paged_files import PageNumbers
from cvbatch.schema import IMAGE_BYTES, IMAGE_URI, LOCATION, SPAN
from cvbatch.sources.entries import SPAN_FIELDS, Span, exact_paths, spans_of_entries

_SEPARATOR: Final = "#"
_FOR_EARLIER_VERSIONS: Final = "NewerVersion: this row is a page of a file; read it with a newer cvbatch"
PAGE: Final = "page="
"""Before the number of a page in a URI; pages count from 1 (RFC 8118, 3)."""


def split_page(span: Span | None) -> tuple[Span | None, int | None]:
    """Split a span into that of the file (None: a whole file) and the number of a page (None: its first picture)."""
    how, separator, number = ("" if span is None else span.how).partition(_SEPARATOR)
    if span is None or not separator:
        return span, None
    return (replace(span, how=how, refused=None) if how else None), int(number)


def expand_pages(entries: pa.Table, pages: Sequence[PageNumbers]) -> pa.Table:
    """Replace each file with several pages by one row for each page.

    Args:
        entries: (n files) with `ENTRY_FIELDS` and extra columns.
        pages: Pages of each file; a file of one page stays as it is.
    """
    if not any(len(found.numbers) > 1 for found in pages):
        return entries
    positions = [position for position, found in enumerate(pages) for _ in found.numbers]
    expanded = entries.take(pa.array(positions, pa.int64()))
    uris, sizes = entries[IMAGE_URI].to_pylist(), entries[IMAGE_BYTES].to_pylist()
    paths, spans = exact_paths(entries), spans_of_entries(entries)
    exact = entries[LOCATION].to_pylist()
    columns: dict[str, list[object]] = {IMAGE_URI: [], IMAGE_BYTES: [], LOCATION: [], SPAN: []}
    for uri, size, path, span, location, found in zip(uris, sizes, paths, spans, exact, pages, strict=True):
        if len(found.numbers) <= 1:
            for name, value in zip(columns, (uri, size, location, _to_fields(span)), strict=True):
                columns[name].append(value)
            continue
        # the size of a member is that of the member, because it is read by it
        share = None if size is None else size // len(found.numbers)
        page_bytes = size if span is not None else found.page_bytes or share
        for number in found.numbers:
            columns[IMAGE_URI].append(f"{uri}{_SEPARATOR}{PAGE}{number}")
            columns[IMAGE_BYTES].append(page_bytes)
            columns[LOCATION].append(path)
            columns[SPAN].append(_to_fields(_span_of_page(span, number)))
    for name, values in columns.items():
        field = entries.schema.field(name)
        index = expanded.schema.get_field_index(name)
        expanded = expanded.set_column(index, field, pa.array(values, field.type))
    return expanded


def _span_of_page(span: Span | None, number: int) -> Span:
    if span is None:
        return Span(how=f"{_SEPARATOR}{number}", refused=_FOR_EARLIER_VERSIONS)
    key = span.key and span.key + f"{_SEPARATOR}{PAGE}{number}".encode()
    return replace(span, how=f"{span.how}{_SEPARATOR}{number}", key=key, refused=_FOR_EARLIER_VERSIONS)


def _to_fields(span: Span | None) -> dict[str, object] | None:
    return None if span is None else {column.name: getattr(span, column.name) for column in SPAN_FIELDS}
