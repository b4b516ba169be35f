"""What a start needs of Ray: begun in the background, sized, and fed with units."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import pyarrow as pa

from cvbatch.compute.cluster import Cluster, Startup
from cvbatch.compute.decode_stage import DecodeOptions, error_columns
from cvbatch.compute.predict_stage import PredictOptions
from cvbatch.compute.sizing import Pools, size_pools
from cvbatch.compute.trouble import Complaints, is_system_failure, plain
from cvbatch.config import ComputeConfig, SourceConfig
from cvbatch.errors import RowError
from cvbatch.models.registry import check_aliases, needs_probe
from cvbatch.models.spec import ModelSpec
from cvbatch.planning.units import Unit, read_unit
from cvbatch.schema import predictions_schema
from cvbatch.versions import versions
from cvbatch.writing.files import WriteJob, Written, write_blocks

_LOST = RowError("predict", "ProcessDied", "the process that worked on this image died each time", transient=True)


class Engine:
    """Ray and the three stages that run in it.

    Args:
        output: Absolute location of the output.
        pythonpath: Folder that the workers can import from, besides what is installed.
    """

    def __init__(self, output: str, pythonpath: str | None = None) -> None:
        self._output = output
        self._startup = Startup(pythonpath)
        self._first = True
        self.cluster: Cluster | None = None
        self.pools: Pools | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._startup.stop()

    def probe(self, models: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
        """Load the models that only loading can describe, in a worker, and fill in what they say.

        Raises:
            ModelError: If one cannot be loaded or does not fit its categories.
        """
        if not any(map(needs_probe, models)):
            return tuple(models)
        self._startup.ready()
        from ray.exceptions import RayError

        from cvbatch.compute.remote import probe_models

        try:
            probed = probe_models(models)
        except RayError as error:
            raise plain(error) from None
        check_aliases(probed)
        return probed

    def prepare(
        self,
        models: Sequence[ModelSpec],
        carried: Sequence[pa.Field],
        source: SourceConfig,
        compute: ComputeConfig,
        rows: int,
    ) -> int:
        """Wait for Ray and share it out.

        Returns:
            How many rows a unit should have.
        """
        import cvbatch.compute.stages  # noqa: F401 - takes a second, in which Ray starts

        self.cluster = self._startup.ready()
        self.pools = size_pools(self.cluster, compute, models, rows)
        views = tuple(dict.fromkeys(model.view for model in models))
        self._options = PredictOptions(
            output=self._output,
            decode=DecodeOptions(views=views, max_pixels=source.max_pixels, exif=source.exif),
            device=self.pools.device,
            precision=self.pools.precision,
            batch_size=self.pools.batch_size,
            threads=self.pools.threads,
        )
        fields = [column for model in models for column in model.fields()]
        schema = predictions_schema(fields, exif=source.exif, carried=carried)
        self._schema = schema.with_metadata({"cvbatch": json.dumps(_about(models, self.pools))})
        return self.pools.unit_rows

    def label(self, units: Sequence[Unit], epoch: int) -> Iterator[Written]:
        """Decode, predict and write some units; yields each file once it is written.

        Raises:
            RunError: If the stages cannot go on.
        """
        from ray.exceptions import RayError

        from cvbatch.compute.remote import Writers
        from cvbatch.compute.stages import predicted_blocks
        from cvbatch.compute.stream import written_files

        assert self.pools is not None, "prepare comes first"
        complaints = Complaints()
        try:
            with complaints.heard():
                predicted = predicted_blocks(self._output, units, self._options, self.pools)
                writers = Writers(WriteJob(self._output, epoch, self._schema))
                yield from written_files(predicted, writers, early=self._first)
        except (RayError, OSError) as error:
            raise plain(error) from None
        if complaints.last is not None and not is_system_failure(complaints.last):
            raise plain(complaints.last)
        self._first = False

    def give_up(self, units: Sequence[Unit], epoch: int) -> Written:
        """Write error rows for images that took every process along."""
        blocks = [_lost_rows(read_unit(self._output, unit), self._schema) for unit in units]
        return write_blocks(WriteJob(self._output, epoch, self._schema), blocks)


def _lost_rows(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    facts = {column.name: column.type for column in schema}
    known = {name: rows[name] for name in rows.column_names if name in facts}
    errors = {name: pa.array(values, facts[name]) for name, values in error_columns([_LOST] * rows.num_rows).items()}
    absent = {name: pa.nulls(rows.num_rows, kind) for name, kind in facts.items() if name not in known | errors}
    return pa.table({name: (known | errors | absent)[name] for name in schema.names})


def _about(models: Sequence[ModelSpec], pools: Pools) -> dict[str, Any]:
    """What the Parquet metadata says of the models and versions."""
    return {
        "models": [{**model.to_json(), "categories": len(model.categories)} for model in models],
        "precision": pools.precision,
        "versions": versions(),
    }
