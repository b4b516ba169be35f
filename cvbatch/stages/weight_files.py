"""Where the process that predicts finds the weights of its models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from cvbatch.models.spec import ModelSpec


class WeightFiles(Protocol):
    """Weights that may have to be brought to this machine; may be pickled."""

    def localize_plan_models(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models of the plan, with weights that lie on this machine."""

    def fetch_local(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The same models, with weights that lie on this machine."""


class WeightsInPlace:
    """There is one machine, and its paths are those of the specs."""

    def localize_plan_models(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models as they are."""
        return tuple(models)

    def fetch_local(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models as they are."""
        return tuple(models)


WEIGHTS_IN_PLACE: Final = WeightsInPlace()
