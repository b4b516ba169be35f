"""Inputs of the tuner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.decode import DecodeOptions
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE, WeightFiles


@dataclass(frozen=True, slots=True)
class TuningRequest:
    """Inputs of the tuner: models, decode options and requested resources."""

    models: tuple[ModelSpec, ...]
    decode: DecodeOptions
    compute: ComputeConfig
    weight_files: WeightFiles = WEIGHTS_IN_PLACE

    @staticmethod
    def from_job(job: Job, models: Sequence[ModelSpec], weight_files: WeightFiles = WEIGHTS_IN_PLACE) -> TuningRequest:
        """Return the request of a job; `models` are its complete specs."""
        decode = DecodeOptions.of_source(job.source, (model.view for model in models))
        decode = replace(decode, exif=job.source.exif, geo=job.source.geo)
        return TuningRequest(tuple(models), decode, job.compute, weight_files)

    def with_models(self, models: Sequence[ModelSpec]) -> TuningRequest:
        """Return the request for some of the models, which are all that sees the images."""
        views = tuple(dict.fromkeys(model.view for model in models))
        return replace(self, models=tuple(models), decode=replace(self.decode, views=views))
