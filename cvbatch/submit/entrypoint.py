"""The first thing that runs on a cluster: checks that it can run the package that came along, then runs it.

It is copied out of the package and keeps to what Python 3.8 reads, so that it can say what is wrong with an older one.
"""

from __future__ import annotations

import os
import sys

OLDEST = (3, 11)
EXIT_CODE = 2
ADVICE = "put the Python that Ray runs with first on the PATH of its head, or take the image of cluster/Dockerfile"


def missing_requirements(needed: list[str]) -> list[str]:
    """Return the requirements that this Python does not meet, in words."""
    from importlib import metadata

    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["packaging, and so Ray"]

    found = []
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found.append(f"{requirement.name}{requirement.specifier}")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name}{requirement.specifier} (it has {version})")
    return found


def describe_python() -> str:
    """Which Python this is."""
    return "Python " + sys.version.split()[0] + " (" + sys.executable + ")"


def read_beside(name: str) -> str:
    """What stands in a file that came along."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)) as file:
        return file.read().strip()


def main() -> int:
    """Become `cvbatch run job/job.yaml` with the arguments that are given, or say in one line why not."""
    ours = read_beside("python.txt")
    theirs = "the cluster runs the job with " + describe_python()
    if sys.version_info[:2] < OLDEST:
        return refuse_job(theirs + " (submitted with " + ours + "): expected 3.11 or newer; " + ADVICE)
    lacking = missing_requirements(read_beside("needs.txt").split("\n"))
    if lacking:
        return refuse_job(theirs + ", which lacks " + ", ".join(lacking) + " (submitted with " + ours + "): " + ADVICE)
    if ours.split(".")[:2] != sys.version.split()[0].split(".")[:2]:
        sys.stderr.write("cvbatch: " + theirs + " (submitted with " + ours + ")\n")
    os.execv(sys.executable, [sys.executable, "-m", "cvbatch", "run", "job/job.yaml", *sys.argv[1:]])


def refuse_job(why: str) -> int:
    """Say why nothing is started."""
    sys.stderr.write(f"cvbatch: {why}\n")
    return EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
