"""Give the option `tiles` to models that can have it."""

from __future__ import annotations

from dataclasses import replace

from cvbatch.config.tiles import TilesConfig
from cvbatch.errors import ModelError
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS


def with_tiles(spec: ModelSpec, config: TilesConfig | None) -> ModelSpec:
    """Return a spec whose view cuts the tiles of the job."""
    return spec if config is None else replace(spec, view=replace(spec.view, tiles=config.to_tiles()))


def check_tiles(spec: ModelSpec) -> None:
    """Check that a model can have the tiles of its view; a model that describes itself is known late.

    Raises:
        ModelError: In one line.
    """
    tiles, task = spec.view.tiles, TASKS[spec.task]
    if tiles is None:
        return
    if "tiles" not in task.options:
        tiled = [name for name, other in TASKS.items() if "tiles" in other.options]
        raise ModelError(
            f"tiles: belong to {' and '.join(tiled)}, but {spec.name} does {task.name} here: leave them out"
        )
    for option, differs in (("whole", tiles.whole), ("merge", tiles.merge != "nms")):
        if differs and not task.has_boxes:
            raise ModelError(
                f"tiles.{option}: is about boxes, and {spec.name} does {task.name} here: leave it out of tiles"
            )
