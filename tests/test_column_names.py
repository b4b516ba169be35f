"""Column names are literals only in `schema.py`, so that a change finds all code that uses a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cvbatch
from cvbatch import schema

ROOT: Final = Path(cvbatch.__file__).parent
NAMES: Final = {
    *(column.name for column in (*schema.IMAGE_FIELDS, *schema.EXIF_FIELDS, schema.WARNING_FIELD)),
    schema.SOURCE_REMOVED,
    *schema.HIDDEN_COLUMNS,
}
OTHER_MEANINGS: Final = {
    "format": ("",),
    "status": ("cli", "commands"),
}
"""Names that mean something else, too, and below which modules they may: a key of what is stored, a command."""


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each name of a column, and of each text that begins with the prefix of one."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if text in NAMES or (" " not in text and text.startswith((schema.PIXELS, schema.MEASURES))):
                yield node.lineno, text


def test_names_of_columns_are_no_literals() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in sorted(ROOT.rglob("*.py"))
        if path != Path(schema.__file__)
        for line, text in literals(path.read_text())
        if not str(path.relative_to(ROOT)).startswith(OTHER_MEANINGS.get(text, ("?",)))
    ]
    assert not found, "use the constants of cvbatch/schema.py:\n" + "\n".join(found)


def test_a_literal_is_found_and_a_docstring_is_none() -> None:
    source = '"""row_id is a column."""\nrows["row_id"], f"_pixels_{3}", "_measures_decode", "width of a road"\n'
    assert {text for _, text in literals(source)} == {"row_id", "_pixels_", "_measures_decode"}


def test_hidden_columns_are_told_apart() -> None:
    hidden = [*schema.HIDDEN_COLUMNS, schema.pixels_column(2), f"{schema.MEASURES}decode"]
    assert all(map(schema.is_hidden, hidden))
    assert not any(map(schema.is_hidden, [field.name for field in schema.IMAGE_FIELDS]))
    assert not schema.is_hidden("_worker_id"), "a column of somebody's manifest"
