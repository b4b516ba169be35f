"""The pages beside the code: short, linked, complete, and without a command that no test runs."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvbatch import errors
from cvbatch.cli.parser import main
from tests.pages import (
    EXCEPTIONS,
    PAGES,
    PAGES_OF_SCRIPTS,
    ROOT,
    Command,
    blocks,
    page_commands,
    page_name,
    table_rows,
)

COMMANDS = [command for page in PAGES for command in page_commands(page)]
RESULTS = ROOT / "cvbatch" / "results" / "README.md"
OUTPUT = ROOT / "cvbatch" / "output" / "README.md"
RAISED_BY_OTHERS = {"MemoryError", "OutOfMemoryError", errors.UnavailableError.__name__}
"""Error types that are the names of exceptions of Python, torch and our own."""
ERROR_TYPE = re.compile(r"[A-Z][a-z]+[A-Z][A-Za-z]+")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_page_begins_with_a_command() -> None:
    later = [page_name(page) for page in PAGES if not re.match(r"# .+\n\n```sh\n", page.read_text(encoding="utf-8"))]
    assert later == ["README.md"]


def test_every_command_is_run_by_a_test_or_is_a_known_exception() -> None:
    unknown = [command for command in COMMANDS if not is_tested(command) and command.exception is None]
    assert unknown == []


def test_every_exception_is_needed() -> None:
    needed = {command.exception for command in COMMANDS if not is_tested(command)}
    assert set(EXCEPTIONS) - needed == set()
    assert [page for page in PAGES_OF_SCRIPTS if not blocks(ROOT / page, "sh")] == []


def is_tested(command: Command) -> bool:
    return command.is_run or command.needs_dashboard


def test_every_option_in_a_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    spans = [span for page in PAGES for span in re.findall(r"`(cvbatch [^`]+)`", page.read_text(encoding="utf-8"))]
    named = [shlex.split(span) for span in spans] + [command.words for command in COMMANDS]
    asked = {(words[1], word) for words in named if words[0] == "cvbatch" for word in words if word.startswith("--")}
    helps = {program: help_of(program, capsys) for program, _ in asked if not program.startswith("--")}
    assert len(asked) > 20
    assert [(program, option) for program, option in asked if option not in helps.get(program, "--version")] == []


def help_of(program: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([program, "--help"])
    return capsys.readouterr().out


def test_every_link_leads_somewhere() -> None:
    assert [link for page in PAGES for link in broken_links(page)] == []


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if ":" not in target and not (path.exists() and (not anchor or anchor in anchors(path))):
            yield f"{page_name(page)}: {target}"


def anchors(page: Path) -> list[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_index_leads_to_every_page() -> None:
    seen, to_read = set[Path](), [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^):#]+\.md)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
        to_read += [path for link in links if (path := (page.parent / link).resolve()) not in seen]
    assert [page_name(page) for page in PAGES if page not in seen] == []


def test_every_error_type_is_explained() -> None:
    rows = [row for row in table_rows(RESULTS, "Error types") if not row[0].startswith("any other name")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row[0]) if name != "error_type"]
    assert sorted(names) == sorted(set(names))
    assert set(names) == raised_error_types() | RAISED_BY_OTHERS


def raised_error_types() -> set[str]:
    """Every error type that the package gives to a row, as literals in its source."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "cvbatch").rglob("*.py")]
    trees = [ast.parse(text) for text in texts if re.search("ImageError|RowError|REFUSALS", text)]
    assigned = dict[str, set[str]]()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in (name for name in ast.walk(target) if isinstance(name, ast.Name)):
                    assigned.setdefault(name.id, set()).update(error_types(node.value))
    raised = set(assigned["REFUSALS"])
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for argument in type_arguments(call):
            raised |= error_types(argument)
            if isinstance(argument, ast.Name):
                raised |= assigned.get(argument.id, set())
    return raised


def type_arguments(call: ast.Call) -> list[ast.expr]:
    """The arguments of a call that name an error type."""
    function = call.func.id if isinstance(call.func, ast.Name) else ""
    place = {"ImageError": 0, "UnlistedError": 0, "RowError": 1}.get(function)
    if place is not None:
        return call.args[place : place + 1]
    return [keyword.value for keyword in call.keywords if function == "replace" and keyword.arg == "type"]


def error_types(node: ast.expr) -> set[str]:
    """The string literals in an expression that have the form of an error type."""
    literals = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return {value for value in literals if isinstance(value, str) and ERROR_TYPE.fullmatch(value)}


def test_every_exception_is_listed_with_its_exit_code() -> None:
    rows = [row for row in table_rows(OUTPUT, "Exit codes") if re.fullmatch(r"`\w+Error`", row[0])]
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    expected = {kind.__name__: kind.exit_code for kind in classes if issubclass(kind, errors.CvbatchError)}
    assert {row[0].strip("`"): int(row[1]) for row in rows} == expected


def test_every_job_file_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?<![\w/])jobs/[\w./-]+\.(?:yaml|py|csv)", text))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_test_that_a_page_names_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:[\w/]+/)?\btest_\w+\.py", text))
    paths = [path.as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(name for name in named if not any(path.endswith(f"/{name}") for path in paths)) == []
