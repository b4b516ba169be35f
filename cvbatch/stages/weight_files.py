"""Interface that brings weights of models to the predict process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from cvbatch.models.spec import ModelSpec


class WeightFiles(Protocol):
    """Weights that may have to be transferred to this machine; picklable."""

    def localize_plan_models(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """Return the models of the plan with weights on this machine."""

    def fetch_local(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """Return the same models with weights on this machine."""


class WeightsInPlace:
    """`WeightFiles` of a single machine, where the paths of the specs are valid."""

    def localize_plan_models(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models as they are."""
        return tuple(models)

    def fetch_local(self, models: Iterable[ModelSpec]) -> tuple[ModelSpec, ...]:
        """The models as they are."""
        return tuple(models)


WEIGHTS_IN_PLACE: Final = WeightsInPlace()
