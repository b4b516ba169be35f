"""Run a model on tiles: those of several images share batches, and the answers for each image are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.preprocess import Size
from cvbatch.images.tile_pixels import TilePixels, tiles_of_view
from cvbatch.images.tiles import Window
from cvbatch.inference.network import Image
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import TileMerger

_CHUNK_BYTES: Final = 32 << 20
"""Pixels of tiles that are in memory at once, if they are read while the model runs."""

RunImages = Callable[[Sequence[Image | None], Sequence[Size]], tuple[dict[str, list[Any]], list[RowError | None]]]
"""Runs a model on images of given sizes; returns answers by alias, and errors."""


class _Tile(NamedTuple):
    row: int
    window: Window
    pixels: Image


def run_on_tiles(
    images: Sequence[TilePixels | None], sizes: Sequence[Size], specs: Sequence[ModelSpec], run: RunImages, batch: int
) -> tuple[dict[str, list[Any]], list[RowError | None]]:
    """Run models of one view on the tiles of images.

    The next tiles are read while the model runs on others.

    Args:
        images: Tiles of each image; None is skipped.
        sizes: (width, height) of each oriented original.
        specs: Of the models.
        run: Runs them.
        batch: Tiles that are needed at once to keep all cores busy.

    Returns:
        One answer for each image by alias, and an error for each image or None.
    """
    errors: list[RowError | None] = [None] * len(images)
    joined = _JoinedAnswers(images, sizes, specs)
    chunks = _cut_into_chunks(_iter_tiles(images, errors), batch)
    with ThreadPoolExecutor(1, thread_name_prefix="tiles") as reader:
        upcoming = reader.submit(next, chunks, None)
        while (chunk := upcoming.result()) is not None:
            upcoming = reader.submit(next, chunks, None)
            answers, tile_errors = run([tile.pixels for tile in chunk], [tile.window.size for tile in chunk])
            for tile, error in zip(chunk, tile_errors, strict=True):
                errors[tile.row] = errors[tile.row] or error
            joined.add_answers(chunk, answers, errors)
    return joined.answers_of_images(errors), errors


class _JoinedAnswers:
    """The answers of all models for all images, which are joined tile by tile."""

    def __init__(self, images: Sequence[TilePixels | None], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> None:
        self._remaining = [0 if image is None else len(image.windows) for image in images]
        self._sizes, self._specs = sizes, {spec.alias: spec for spec in specs}
        self._mergers: dict[tuple[str, int], TileMerger] = {}
        self._answers: dict[str, list[Any]] = {spec.alias: [None] * len(images) for spec in specs}

    def add_answers(self, chunk: Sequence[_Tile], answers: dict[str, list[Any]], errors: list[RowError | None]) -> None:
        """Add the answers for some tiles; an image whose last tile is among them is joined."""
        for position, tile in enumerate(chunk):
            self._remaining[tile.row] -= 1
            for alias in self._specs:
                if errors[tile.row] is None:
                    errors[tile.row] = capture_row_error(
                        "predict", partial(self._add_answer, alias, tile, answers[alias][position])
                    )

    def _add_answer(self, alias: str, tile: _Tile, answer: Any) -> None:
        merger = self._mergers.get((alias, tile.row)) or self._start_merging(alias, tile.row)
        merger.add_tile(tile.window, answer)
        if not self._remaining[tile.row]:
            self._answers[alias][tile.row] = self._mergers.pop((alias, tile.row)).join_tiles()

    def _start_merging(self, alias: str, row: int) -> TileMerger:
        from cvbatch.inference.torch.suppression import suppress_overlaps  # jobs without tiles do not need it

        spec = self._specs[alias]
        merger = TASKS[spec.task].merge_tiles(spec, tiles_of_view(spec.view), self._sizes[row], suppress_overlaps)
        self._mergers[alias, row] = merger
        return merger

    def answers_of_images(self, errors: Sequence[RowError | None]) -> dict[str, list[Any]]:
        """Return the answers by alias; None for images with errors."""
        return {
            alias: [None if error else answer for answer, error in zip(answers, errors, strict=True)]
            for alias, answers in self._answers.items()
        }


def _iter_tiles(images: Sequence[TilePixels | None], errors: list[RowError | None]) -> Iterator[_Tile]:
    """Yield the tiles of all images; an image that cannot be read to its end gets an error."""
    for row, image in enumerate(images):
        tiles = iter(()) if image is None else iter(image)
        while True:
            tile = capture_row_error("decode", partial(next, tiles, None))
            if isinstance(tile, RowError):
                errors[row] = tile
            if image is None or tile is None or isinstance(tile, RowError):
                break
            yield _Tile(row, image.windows[tile[0]], tile[1])


def _cut_into_chunks(tiles: Iterator[_Tile], least: int) -> Iterator[list[_Tile]]:
    chunk, held_bytes = list[_Tile](), 0
    for tile in tiles:
        chunk.append(tile)
        held_bytes += tile.pixels.nbytes
        if held_bytes >= _CHUNK_BYTES and len(chunk) >= least:
            yield chunk
            chunk, held_bytes = [], 0
    if chunk:
        yield chunk
