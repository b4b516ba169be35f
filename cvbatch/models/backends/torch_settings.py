"""Settings that affect torch networks."""

from __future__ import annotations

from typing import Final

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS

_ALWAYS: Final = frozenset({"precision", "device_decode", "channels_last", "batch_factor", "lanes"})


def torch_settings(spec: ModelSpec) -> frozenset[str]:
    """See `Backend.applicable_settings`.

    A network can be compiled if all its images have one size and it returns one vector for each.
    """
    compiles = spec.view.crop is not None and not TASKS[spec.task].locates_objects
    return _ALWAYS | ({"compiled"} if compiles else set())
