"""What `kubectl kustomize` makes of the folders in `kuberay/`."""

from __future__ import annotations

import copy
import subprocess
from functools import cache

import pytest

from tests.cluster.files import KUBERAY, Json, documents, tool

RAY = ("RayJob", "RayCluster")
SIZES = ("job", "standing", "small", "large")
KUBECTL = tool("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed, which builds the overlays")


@cache
def built(size: str) -> tuple[Json, ...]:
    """All objects of a folder; not to be changed."""
    assert KUBECTL is not None, "the tests that call this are skipped without"
    done = subprocess.run([KUBECTL, "kustomize", str(KUBERAY / size)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(documents(done.stdout))


def of_ray(objects: tuple[Json, ...]) -> Json:
    """A copy of the RayJob or RayCluster among them."""
    (found,) = [each for each in objects if each["kind"] in RAY]
    return copy.deepcopy(found)
