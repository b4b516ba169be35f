"""The pages for operators: each begins with what to type, and names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cvbatch.config.job_file import load_job
from tests.cluster.files import CLUSTER, ROOT, documents

PAGES = sorted(CLUSTER.rglob("*.md"))
YAMLS = sorted(path for folder in ("cluster", "jobs") for path in (ROOT / folder).rglob("*.yaml"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", YAMLS, ids=_name)
def test_every_yaml_is_read_strictly(path: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(path.read_text(encoding="utf-8")))


def test_a_key_that_stands_twice_is_noticed() -> None:
    with pytest.raises(Exception, match="twice in one mapping: a"):
        documents("a: 1\na: 2\n")


RUNS = [path for path in YAMLS if "jobs" in path.parts and not path.name.startswith("train_")]


@pytest.mark.parametrize("path", RUNS, ids=_name)
def test_jobs_run_on_a_cluster_as_they_are(path: Path) -> None:
    assert load_job(str(path), overrides=["source.uri=s3://photos/", "output.uri=s3://labels/"]).output.location.bucket


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_pages_begin_with_the_commands_and_end_with_the_pitfalls(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# .+\n\n```sh\n", text)
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[-1] == "Pitfalls"


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", path.read_text(encoding="utf-8"))]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_files_in_commands_are_there(path: Path) -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), re.S))
    named = set(re.findall(r"\b(?:cluster|jobs)/[\w./-]+", blocks))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_leads_to_every_page() -> None:
    seen, todo = set[Path](), [CLUSTER / "README.md"]
    while todo:
        page = todo.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^):#]+\.md)\)", page.read_text(encoding="utf-8"))
        todo += [
            path for link in links if (path := (page.parent / link).resolve()) not in seen and CLUSTER in path.parents
        ]
    assert seen >= set(PAGES)


@pytest.mark.parametrize("path", [path for path in CLUSTER.rglob("*") if path.is_file()], ids=_name)
def test_nothing_holds_a_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|ghp_\w{20}|eyJ[\w-]{20}", text)
    accounts = set(re.findall(r"\b\d{12}\b", text))
    assert accounts <= {"123456789012"}
