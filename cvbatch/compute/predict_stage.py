"""The second stage: pixels → columns of predictions, in an actor that holds all models of the job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.compute.cluster import local_cores
from cvbatch.compute.decode_stage import ENCODED, DecodeOptions, decode_encoded, error_columns, pixels_column
from cvbatch.errors import RowError
from cvbatch.pixels import unpack
from cvbatch.planning.plan import load_plan
from cvbatch.schema import IMAGE_FIELDS
from cvbatch.writing.files import MEASURES
from cvbatch.writing.store import open_store


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What an actor needs; the models themselves it reads from the plan, or a restart would depend on an object."""

    output: str
    decode: DecodeOptions
    device: str
    precision: str
    batch_size: int | None
    threads: int


class Predict:
    """All models of a job on one device; one call is one unit."""

    def __init__(self, options: PredictOptions) -> None:
        from cvbatch.models.predictor import Predictor  # torch is loaded here and nowhere else

        plan = load_plan(open_store(options.output))
        assert plan is not None, "a run has a plan"
        self._options = options
        self._predictor = Predictor(
            plan.models,
            device=options.device,
            precision=options.precision,
            batch_size=options.batch_size,
            # logical CPUs of the cluster may be more than this machine has cores
            threads=min(options.threads, local_cores()),
        )

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Predict one unit.

        Args:
            unit: Output of the decode stage.

        Returns:
            The same rows without pixels, with the columns of every model.
        """
        encoded = pc.is_valid(unit[ENCODED])
        done = [self._predict(unit.filter(pc.invert(encoded)) if pc.any(encoded).as_py() else unit)]
        rest = unit.filter(encoded)
        while rest.num_rows:
            decoded = decode_encoded(rest, self._options.decode)
            left = pc.is_valid(decoded[ENCODED])
            done.append(self._predict(decoded.filter(pc.invert(left))))
            rest = decoded.filter(left)
        return pa.concat_tables(done)

    def _predict(self, table: pa.Table) -> pa.Table:
        started = time.perf_counter()
        views = {view: unpack(table[pixels_column(index)]) for index, view in enumerate(self._options.decode.views)}
        sizes = list(
            zip(table["width"].fill_null(0).to_pylist(), table["height"].fill_null(0).to_pylist(), strict=True)
        )
        predictions = self._predictor.predict(views, sizes)
        kept = table.select([name for name in table.column_names if not name.startswith("_pixels") and name != ENCODED])
        kept = _with_errors(kept, predictions.errors)
        for name, column in predictions.columns.items():
            kept = kept.append_column(name, column)
        seconds = (time.perf_counter() - started) / max(1, table.num_rows)
        return kept.append_column(f"{MEASURES}predict", pa.array(np.full(table.num_rows, seconds)))


def _with_errors(table: pa.Table, errors: Sequence[RowError | None]) -> pa.Table:
    """Mark rows whose prediction failed; earlier errors stay."""
    if not any(errors):
        return table
    failed = pa.array([error is not None for error in errors])
    types = {column.name: column.type for column in IMAGE_FIELDS}
    for name, values in error_columns(errors).items():
        at = table.column_names.index(name)
        merged = pc.if_else(failed, pa.array(values, types[name]), table[name])
        table = table.set_column(at, table.schema.field(name), merged)
    return table
