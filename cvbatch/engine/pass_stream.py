"""Stream units through several passes of the models, and bring the blocks of each unit together.

Predictions of earlier passes stay in Ray's object store, which moves them to disk where it is full. They are references
like those of a single pass: nothing is written or committed before the last pass, so a run that is killed has lost the
units of one turn and no row has columns of some models only.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from cvbatch.engine.dataflow import WaveEndedError
from cvbatch.engine.ray_tasks import TASK_RETRIES
from cvbatch.output.data_files import WriteContext, WriteResult, write_data_files
from cvbatch.planning.units import RowUnit
from cvbatch.schema import ROW_ID
from cvbatch.stages.joining import join_passes
from cvbatch.system.ray_compat import BlockBundle, block_references

Stream = Callable[[Sequence[RowUnit]], Generator[BlockBundle]]
"""Predicts units by the models of one pass."""
_FIRST_UNITS: Final = 8
"""Units of the first turn for each process, so that the first commit comes soon."""
_UNITS: Final = 150
"""Units of each later turn for each process: about ten minutes in each pass, in which loading the models disappears."""


@dataclass(frozen=True, slots=True)
class JoinedBundle:
    """A `BlockBundle` with the blocks of one unit, one of each pass."""

    bundles: tuple[BlockBundle, ...]

    @property
    def block_refs(self) -> Sequence[Any]:
        """References to the blocks, in the order of the passes."""
        return block_references(self.bundles)

    def num_rows(self) -> int | None:
        """Rows of the unit."""
        return self.bundles[0].num_rows()

    def size_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(bundle.size_bytes() for bundle in self.bundles)


def stream_in_passes(
    units: Sequence[RowUnit],
    streams: Sequence[Stream],
    *,
    processes: int,
    is_first: bool,
    local: bool,
    should_stop: Callable[[], bool],
) -> Generator[BlockBundle]:
    """Stream the units of a wave through all passes, in turns of a few hundred units.

    Args:
        units: Units of the wave.
        streams: One for each pass.
        processes: Number of processes that predict.
        is_first: Whether nothing has been computed in this attempt yet.
        local: Whether Ray runs on this machine alone.
        should_stop: Whether to end the wave after a turn.

    Yields:
        One bundle for each unit that all passes have computed.

    Raises:
        WaveEndedError: If `should_stop` has ended the wave.
        ExecutionTimeoutError: If a pass has stalled; the units before are yielded first, as with errors of Ray.
    """
    first_row = _first_row if local else _first_row_in_task
    start, size = 0, (_FIRST_UNITS if is_first else _UNITS) * processes
    if len(units) <= 2 * size:
        size = len(units)  # a second turn would take longer than its units
    while start < len(units):
        yield from _stream_turn(units[start : start + size], streams, first_row)
        start, size = start + size, _UNITS * processes
        if start < len(units) and should_stop():
            raise WaveEndedError


def _stream_turn(
    units: Sequence[RowUnit], streams: Sequence[Stream], first_row: Callable[[BlockBundle], int]
) -> Generator[BlockBundle]:
    kept: dict[int, tuple[BlockBundle, ...]] = {unit.low: () for unit in units}
    failure: Exception | None = None
    for stream in streams[:-1]:
        results = dict[int, tuple[BlockBundle, ...]]()
        try:
            for bundle in _stream_once(stream, units):
                low = first_row(bundle)
                results[low] = (*kept[low], bundle)
        except WaveEndedError:
            raise
        except (RayError, ExecutionTimeoutError) as error:
            failure = failure or error  # what is computed goes on first
        kept, units = results, [unit for unit in units if unit.low in results]
    if units:
        for bundle in _stream_once(streams[-1], units):
            yield JoinedBundle((*kept.pop(first_row(bundle)), bundle))
    if failure is not None:
        raise failure


def _stream_once(stream: Stream, units: Sequence[RowUnit]) -> Iterator[BlockBundle]:
    """One pass; the processes of the pass before have ended by then."""
    if not units:
        return
    gc.collect()  # the traceback of a failure may still refer to them
    with closing(stream(units)) as blocks:
        yield from blocks


def _first_row(bundle: BlockBundle) -> int:
    """The first row of a unit, by which its blocks are known; the block is read where it lies."""
    (reference,) = bundle.block_refs
    return _first_row_of_block(ray.get(reference))


def _first_row_in_task(bundle: BlockBundle) -> int:
    (reference,) = bundle.block_refs
    task = ray.remote(num_cpus=0, max_retries=TASK_RETRIES)(_first_row_of_block)
    low: int = ray.get(task.remote(reference))
    return low


def _first_row_of_block(block: pa.Table) -> int:
    low: int = pc.min(block[ROW_ID]).as_py()
    return low


def writer_of_passes(passes: int) -> Callable[[WriteContext, Sequence[pa.Table]], WriteResult]:
    """Return what writes the blocks of `JoinedBundle` as data files.

    Args:
        passes: Number of passes, and of blocks of each unit.
    """
    return write_data_files if passes == 1 else partial(_write_joined, passes)


def _write_joined(passes: int, context: WriteContext, blocks: Sequence[pa.Table]) -> WriteResult:
    units = [blocks[start : start + passes] for start in range(0, len(blocks), passes)]
    return write_data_files(context, [join_passes(unit) for unit in units])
