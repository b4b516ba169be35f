"""CSV and JSON lines as programs write them; errors name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.sources import open_source
from cvbatch.sources.text_manifests import LONGEST_FIELD

GOOD = "uri,x\na.jpg,1\nb.jpg,é\n"


def rows(path: Path, content: bytes | str) -> list[tuple[str, str]]:
    """The name and the column `x` of each row."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    chunks = list(open_source(SourceConfig(uri=str(path))).iter_chunks())
    return [(row["image_uri"].rpartition("/")[2], row["x"]) for chunk in chunks for row in chunk.to_pylist()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str, name: str) -> None:
    text = GOOD if name == "m.csv" else '{"uri": "a.jpg", "x": "1"}\n{"uri": "b.jpg", "x": "é"}\n'
    content = text.replace("\n", end).encode(encoding)
    assert rows(tmp_path / name, content) == [("a.jpg", "1"), ("b.jpg", "é")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_byte_order_mark_in_other_scripts(tmp_path: Path, encoding: str) -> None:
    """Not every second byte is zero in these scripts."""
    assert rows(tmp_path / "m.csv", "uri,x,写真\n日本.jpg,1,年\n".encode(encoding)) == [("日本.jpg", "1")]
    assert rows(tmp_path / "m.csv", "写真,x,uri\n年,1,a.jpg\n".encode(encoding)) == [("a.jpg", "1")]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_header_decides_the_separator(tmp_path: Path, separator: str) -> None:
    assert rows(tmp_path / "m.csv", f"x{separator}uri\n1,5{separator}a.jpg\n") == [("a.jpg", "1,5")]
    assert rows(tmp_path / "m.tsv", "uri\tx\na.jpg\t1;2\n") == [("a.jpg", "1;2")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("uri , x\na.jpg, 1\n", [("a.jpg", "1")]),
        ("x, uri\n1, a.jpg\n", [("a.jpg", "1")]),
        ("uri,x\na.jpg, 1\n", [("a.jpg", " 1")]),
        ('"uri","x"\n"a.jpg","1\r\n2"\n', [("a.jpg", "1\r\n2")]),
        ("\n\nuri,x\n\na.jpg,1\n\n", [("a.jpg", "1")]),
        ('uri,x\na.jpg,12" pizza\n', [("a.jpg", '12" pizza')]),
        (f"uri,x\na.jpg,{'y' * 200_000}\n", [("a.jpg", "y" * 200_000)]),
        ('"u\nri",uri,x\n1,a.jpg,2\n', None),
    ],
)
def test_valid_files(tmp_path: Path, content: str, expected: list[tuple[str, str]] | None) -> None:
    result = rows(tmp_path / "m.csv", content)
    assert result == (expected or [("a.jpg", "2")])


NEVER = "a quote is opened and never closed"
TWICE = "text follows the quote that closes a field: write a quote within a quoted field twice"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('uri,x\na,1\nb,"12 inch\nc,plain\nd,plain\n', f"line 3: {NEVER}"),
        ('uri,x\nb,"12 inch\nc,"fine"\n', f"line 2: {TWICE}"),
        ('uri,x\na,"two\nlines"\nb,"12" pizza\n', f"line 4: {TWICE}"),
        ('uri,x\nb,"12 inch\nc,1\nd,9"\ne,1,2\n', "line 5: expected 2 fields, as the header has, got 3"),
        ('uri,x\nb,1,"12 inch\nc,9"\n', "line 2: expected 2 fields, as the header has, got 3; a quote opened there"),
        ("uri,x\na,1\nb\n", "line 3: expected 2 fields, as the header has, got 1"),
        ("uri,x\r\n\r\na,1,2\r\n", "line 3: expected 2 fields, as the header has, got 3"),
        ("uri,x\na,1\nb,\0\n", "line 3 holds a zero byte: expected text"),
        (b"uri,x\na,1\nb,caf\xe9\n", "line 3 is not UTF-8: save the file as UTF-8"),
        ("uri,x\na,1\n".encode("utf-16") + b"\x00\xd8", "is not UTF-16"),
        ('uri,"x\na,1\n', f"line 1: {NEVER}"),
        ("\n\n", "is empty: expected a line with the names of its columns"),
        (b"PK\x03\x04\x00\x00", "holds a zero byte"),
    ],
)
def test_lines_that_cannot_be_read(tmp_path: Path, content: bytes | str, expected: str) -> None:
    with pytest.raises(SourceError) as caught:  # raised when it is opened, before anything is started
        open_source(SourceConfig(uri=str(written(tmp_path / "m.csv", content))))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"uri": "a"}\n\n{"uri": "b"\n', "line 3 is not JSON"),
        ('{"uri": "a"}\n{"uri": "b\0"}\n', "line 2 holds a zero byte"),
        (b'{"uri": "a"}\n{"uri": "\xe9"}\n', "line 2 is not UTF-8"),
        ("[" * 100_000, "line 1 is "),
        ('[{"uri": "a"}]', "line 1: expected an object with a 'uri'"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | str, expected: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(SourceConfig(uri=str(written(tmp_path / "m.jsonl", content))))
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 300


def test_objects_without_keys_are_text(tmp_path: Path) -> None:
    assert rows(tmp_path / "m.jsonl", '{"uri": "a.jpg", "x": {}}\n') == [("a.jpg", "{}")]


def test_an_unclosed_quote_uses_bounded_memory(tmp_path: Path) -> None:
    lines = "a.jpg,x\n" * (LONGEST_FIELD // 8 + 1)
    with pytest.raises(SourceError, match=f"line 3: {NEVER}"):
        rows(tmp_path / "m.csv", f'uri,x\na,1\nb,"x\n{lines}')


@pytest.mark.parametrize("name", ["m.csv.gz", "m.jsonl.zst", "m.tsv.bz2"])
def test_compressed_manifests_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=f"{name} is a packed manifest: unpack it first"):
        open_source(SourceConfig(uri=str(written(tmp_path / name, b"\x1f\x8b"))))


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
