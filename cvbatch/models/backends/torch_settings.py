"""Which settings make a difference to networks of torch."""

from __future__ import annotations

from typing import Final

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS

_ALWAYS: Final = frozenset({"precision", "device_decode", "channels_last", "batch_factor", "lanes"})


def torch_settings(spec: ModelSpec) -> frozenset[str]:
    """See `Backend.applicable_settings`.

    A network is compiled where all images reach it in one size, and what it gives is a vector for each.
    """
    compiles = spec.view.crop is not None and not TASKS[spec.task].locates_objects
    return _ALWAYS | ({"compiled"} if compiles else set())
