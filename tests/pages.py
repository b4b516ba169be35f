"""The pages beside the code: their commands, and where each command is run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
READMES: Final = sorted(
    path for folder in (".", "jobs", "tests", "cvbatch/**") for path in ROOT.glob(f"{folder}/README.md")
)
PAGES: Final = sorted({*READMES, *(ROOT / "cluster").rglob("*.md")})

EXCEPTIONS: Final = {
    "make": "runs the demo, or these tests themselves",
    "source": "activates the environment that these tests run in",
    "kubectl": "needs Kubernetes; `tests/cluster/test_kuberay.py` checks the manifests",
    "helm": "needs Kubernetes",
    "sbatch": "needs Slurm; `tests/cluster/test_slurm.py` submits the script where Slurm is installed",
    "squeue": "needs Slurm",
    "scancel": "needs Slurm; `tests/cluster/test_slurm.py` sends these signals where Slurm is installed",
    "ray": "needs an account at a cloud, or writes a token to the home folder; `tests/cluster/test_ray_up.py`",
    "docker": "needs a container engine; `tests/cluster/test_compose.py`, `tests/cluster/test_dockerfile.py`",
    "IMAGE=registry.example.com/cvbatch:0.1.0-ray2.60.0": "names the image for the commands that follow",
    "(umask": "reads a secret of a Kubernetes cluster",
    "ss": "shows the ports of a machine of a cluster",
    "curl": "asks the dashboard of a cluster",
    "ssh": "needs a machine of a cluster",
    "export": "for the nodes of a cluster",
}
"""Commands that no test runs as they are, by how they begin, and why."""
PAGES_OF_SCRIPTS: Final = {
    "cluster/compose.md": "one script; needs a container engine",
    "cluster/iam/README.md": "one script; needs an account at AWS",
}
"""Pages whose blocks are shell scripts of several lines, and why no test runs them."""
RUNNABLE: Final = {"cvbatch", "python", "export", "mkdir", "mv"}
"""Programs that `tests/integration/test_pages.py` runs."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command in a shell block of a page."""

    page: str
    """Path from the top of the clone."""
    text: str

    @property
    def words(self) -> list[str]:
        """Its words, without comment and without variables set for this command alone."""
        words = shlex.split(self.text, comments=True)
        while len(words) > 1 and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        return words

    @property
    def needs_dashboard(self) -> bool:
        """Whether it talks to a running cluster; `tests/integration/test_submit.py` runs it."""
        return self.words[0] == "cvbatch" and "--address" in self.words

    @property
    def is_run(self) -> bool:
        """Whether `tests/integration/test_pages.py` runs it."""
        on_this_machine = not self.page.startswith(("cluster/", "tests/"))
        return on_this_machine and self.words[0] in RUNNABLE and not self.needs_dashboard

    @property
    def exception(self) -> str | None:
        """The entry of `EXCEPTIONS` that applies, if one does."""
        program = self.words[0]
        return next((start for start in EXCEPTIONS if start == program or self.text.startswith(f"{start} ")), None)


def page_name(page: Path) -> str:
    """Path from the top of the clone."""
    return page.relative_to(ROOT).as_posix()


def page_commands(page: Path) -> list[Command]:
    """The commands of all shell blocks of a page, in their order; none of a page of scripts."""
    if page_name(page) in PAGES_OF_SCRIPTS:
        return []
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [Command(page_name(page), line) for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of all rows of tables below a heading, up to the next heading of that level."""
    section = page.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
