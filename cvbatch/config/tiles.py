"""The option `tiles` of a model."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from cvbatch.config.compute import ConfigSection
from cvbatch.images.tiles import Tiles

_LEAST_SIZE: Final = 32
_MOST_SIZE: Final = 8192
_MOST_OVERLAP: Final = 0.9


class TilesConfig(ConfigSection):
    """How pictures are cut, so that a model of boxes or masks sees them in full resolution."""

    size: Annotated[int, Field(ge=_LEAST_SIZE, le=_MOST_SIZE, strict=True)] = 1024
    """Side of a tile, in pixels of the picture."""
    overlap: Annotated[float, Field(ge=0, le=_MOST_OVERLAP, strict=True)] = 0.2
    """Least share of a side that two neighbours have in common; objects up to this size are whole in one of them."""
    whole: bool = False
    """Detection: the whole picture goes through the model as well, for objects that are larger than a tile."""
    merge: Literal["nms", "wbf"] = "nms"
    """Detection: of boxes of one object from several tiles the best stays, or all are averaged by their scores."""

    @model_validator(mode="before")
    @classmethod
    def _explain_other_types(cls, data: Any) -> Any:
        if not isinstance(data, dict | TilesConfig):
            raise ValueError(f"expected a mapping such as {{size: 1024, overlap: 0.2}}, got {data!r}")
        return data

    def to_tiles(self) -> Tiles:
        """Return the same for the stages."""
        return Tiles(size=self.size, overlap=self.overlap, whole=self.whole, merge=self.merge)
