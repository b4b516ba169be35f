"""Seeded checkpoints, made once for the whole run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.inference.predictor import probe_model
from cvbatch.models import resolve as registry
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import seeded_checkpoint

Seeded = Callable[..., ModelSpec]


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """Resolve a builder with seeded weights, with options of a job's model entry."""
    folder = tmp_path_factory.mktemp("weights")
    entries: dict[str, dict[str, Any]] = {}

    def resolve(builder: str, **options: Any) -> ModelSpec:
        if builder not in entries:
            entries[builder] = seeded_checkpoint(builder, folder)
        (spec,) = registry.resolve_models([ModelConfig.model_validate(entries[builder] | options)])
        return probe_model(spec)

    return resolve
