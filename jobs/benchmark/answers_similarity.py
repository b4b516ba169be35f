"""Near duplicates against the bare matrix product of the same vectors, and against indexes; prints JSON.

    python jobs/benchmark/answers_similarity.py --rows 100000
    python jobs/benchmark/answers_similarity.py --rows 20000 --index hnswlib --index faiss

The vectors have a spectrum that falls like that of networks (the k-th direction has 1/k of the variance, and there is a
common part), or none (`--flat`, the hardest case for sketches). One in fifty is a copy with noise. The bare product is
that of all pairs once, in tiles, without looking at the results; on more than 30,000 rows it is measured on some tiles.
Ratios are those of CPU time of all threads, because it does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cvbatch.similarity.image_vectors import VectorFile
from cvbatch.similarity.star_groups import group_around_representatives

_BLOCK, _TILE, _COPY_SHARE = 1024, 4096, 50
_WHOLE_ROWS, _TILES = 30_000, 24


def make_vectors(rows: int, dimension: int, *, flat: bool) -> VectorFile:
    """Vectors in float16; every fiftieth is a copy, with noise, of the one before it."""
    rng, file = np.random.default_rng(0), VectorFile(rows, dimension, np.float16)
    scales = np.ones(dimension, np.float32) if flat else (np.arange(1, dimension + 1) ** -0.5).astype(np.float32)
    for start in range(0, rows, _BLOCK * 8):
        count = min(_BLOCK * 8, rows - start)
        vectors = rng.standard_normal((count, dimension), np.float32) * scales + (0 if flat else 0.03)
        noise = rng.standard_normal((len(vectors[1::_COPY_SHARE]), dimension), np.float32) * scales
        vectors[1::_COPY_SHARE] = vectors[::_COPY_SHARE][: len(noise)] + 0.1 * noise
        file.add((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16))
    return file


def bare_seconds(file: VectorFile, kind: str) -> float:
    """CPU seconds of all products, each pair once, at the full width."""
    rows = len(file)
    tiles = [(low, start) for start in range(0, rows, _BLOCK) for low in range(0, start + 1, _TILE)]
    if rows > _WHOLE_ROWS:
        tiles = [tiles[index] for index in np.linspace(0, len(tiles) - 1, _TILES).astype(int)]
    used = 0
    out = torch.empty(_BLOCK * _TILE, dtype=torch.bfloat16 if kind == "bfloat16" else torch.float32)
    seconds = 0.0
    for low, start in tiles:
        one, other = (
            torch.from_numpy(file.unit_vectors(slice(first, first + count))).to(out.dtype)
            for first, count in ((start, _BLOCK), (low, min(_TILE, start + _BLOCK - low)))
        )
        products = out[: len(one) * len(other)].view(len(one), len(other))
        started = time.process_time()
        torch.mm(one, other.T, out=products)
        seconds += time.process_time() - started
        used += products.numel()
    return seconds * (rows * rows / 2) / used


def measure_index(name: str, file: VectorFile, threshold: float, pairs: set[tuple[int, int]]) -> dict[str, Any]:
    """Time of an index that gives candidates, and its recall of the exact pairs."""
    vectors = file.unit_vectors(slice(0, len(file)))
    started = time.process_time()
    query = {"hnswlib": _hnswlib_query, "faiss": _faiss_query}[name](vectors)
    built = time.process_time() - started
    first, second = np.repeat(np.arange(len(vectors)), 10), query(vectors, 10).ravel()
    cosines = file.pair_cosines(first, second)
    alike = (first != second) & (cosines >= threshold)
    found = {(min(pair), max(pair)) for pair in zip(first[alike].tolist(), second[alike].tolist(), strict=True)}
    return {
        "build_cpu_seconds": built,
        "cpu_seconds": time.process_time() - started,
        "recall": len(found & pairs) / max(len(pairs), 1),
    }


def _hnswlib_query(vectors: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100)
    index.set_num_threads(torch.get_num_threads())
    index.add_items(vectors)
    index.set_ef(64)
    return lambda queries, count: index.knn_query(queries, count)[0].astype(np.int64)


def _faiss_query(vectors: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    cells = int(4 * len(vectors) ** 0.5)
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[: 40 * cells])
    index.add(vectors)
    index.nprobe = 16
    return lambda queries, count: index.search(queries, count)[1]


def exact_pairs(file: VectorFile, threshold: float) -> set[tuple[int, int]]:
    """All pairs that reach the threshold, by products in float32."""
    vectors, pairs = file.unit_vectors(slice(0, len(file))), set()
    for start in range(0, len(vectors), _BLOCK):
        first, second = np.nonzero(vectors[start : start + _BLOCK] @ vectors[: start + _BLOCK].T >= threshold)
        pairs |= {(low, row) for row, low in zip((first + start).tolist(), second.tolist(), strict=True) if low < row}
    return pairs


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--threshold", type=float, default=0.97)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--index", action="append", default=[], choices=("hnswlib", "faiss"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    file = make_vectors(options.rows, options.dimension, flat=options.flat)
    bare = {kind: bare_seconds(file, kind) for kind in ("bfloat16", "float32")}
    started, cpu_started = time.perf_counter(), time.process_time()

    def report(done: int, rows: int) -> None:
        if done and done % (_BLOCK * 64) == 0:
            sys.stderr.write(f"{done:,} of {rows:,} in {time.perf_counter() - started:.0f} s\n")

    groups = group_around_representatives(file, np.arange(len(file)), options.threshold, report=report)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    result: dict[str, Any] = {
        **{name: getattr(options, name) for name in ("rows", "dimension", "threshold", "threads", "flat")},
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "bare_product_cpu_seconds": bare,
        "of_bare_product": {kind: cpu_seconds / value for kind, value in bare.items()},
        "products": groups.products,
        "duplicates": int(np.count_nonzero(groups.representatives != np.arange(len(file)))),
        "copies": len(range(1, len(file), _COPY_SHARE)),
        "vectors_on_disk": file.is_on_disk,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    if options.index:
        pairs = exact_pairs(file, options.threshold)
        result["pairs"] = len(pairs)
        result["indexes"] = {name: measure_index(name, file, options.threshold, pairs) for name in options.index}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
