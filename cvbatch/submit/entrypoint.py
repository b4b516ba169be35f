"""The first code that runs on a cluster: checks that the cluster can run the package that was sent, then runs it.

It is copied out of the package and uses only the syntax of Python 3.8, so that it can report a Python that is too old.
"""

from __future__ import annotations

import os
import sys

OLDEST = (3, 11)
EXIT_CODE = 2
ADVICE = "put the Python that Ray runs with first on the PATH of its head, or take the image of cluster/Dockerfile"


def missing_requirements(needed: list[str]) -> list[str]:
    """Return the requirements that this Python does not meet, as text."""
    from importlib import metadata

    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["packaging, and so Ray"]

    missing = []
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{requirement.name}{requirement.specifier}")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier} (it has {version})")
    return missing


def describe_python() -> str:
    """Which Python this is."""
    return "Python " + sys.version.split()[0] + " (" + sys.executable + ")"


def read_beside(name: str) -> str:
    """Text of a file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)) as file:
        return file.read().strip()


def main() -> int:
    """Replace this process by `cvbatch run job/job.yaml` with the same arguments, or report in one line why not."""
    submitted_with = read_beside("python.txt")
    python = "the cluster runs the job with " + describe_python()
    if sys.version_info[:2] < OLDEST:
        return refuse_job(python + " (submitted with " + submitted_with + "): expected 3.11 or newer; " + ADVICE)
    missing = missing_requirements(read_beside("needs.txt").split("\n"))
    if missing:
        return refuse_job(
            python + ", which lacks " + ", ".join(missing) + " (submitted with " + submitted_with + "): " + ADVICE
        )
    if submitted_with.split(".")[:2] != sys.version.split()[0].split(".")[:2]:
        sys.stderr.write("cvbatch: " + python + " (submitted with " + submitted_with + ")\n")
    os.execv(sys.executable, [sys.executable, "-m", "cvbatch", "run", "job/job.yaml", *sys.argv[1:]])


def refuse_job(reason: str) -> int:
    """Report why the job is not started; return the exit code."""
    sys.stderr.write(f"cvbatch: {reason}\n")
    return EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
