"""Where small pictures are drawn: by threads of this process, or by tasks on the cluster, beside the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cvbatch.engine.address import cluster_address
from cvbatch.engine.cluster_tasks import ClusterTasks, attach_to_cluster
from cvbatch.errors import UsageError
from cvbatch.output.commit_log import CommitLog
from cvbatch.planning.moved import current_job
from cvbatch.report.drawing import DrawnImage, draw_images, draw_part
from cvbatch.results.committed import OpenedOutput

MANY: Final = 64
"""Pictures from which on a cluster is asked: to attach to it takes as long as to draw some dozens here."""
_PART_IMAGES: Final = 8
"""Images of one task."""
_PURPOSE: Final = "cvbatch report --cluster"


def draw_where_best(
    opened: OpenedOutput, hashes: Mapping[int, str], max_bytes: int, cluster: bool | None
) -> Iterator[DrawnImage]:
    """Draw some images, on the cluster or here; see `draw_images`.

    What the cluster cannot read is drawn here: its machines may lack the credentials that this one has.

    Args:
        opened: The run.
        hashes: `content_sha256` of each image, by row id.
        max_bytes: Most bytes of a picture.
        cluster: Whether to use the cluster of `RAY_ADDRESS`; None to use it if there is one that can read the images,
            and many are to be drawn.

    Raises:
        UsageError: If a cluster is asked for, and none is named, or it cannot read the images.
        RunError: If the cluster does not answer.
    """
    remaining = dict(hashes)
    if hashes and _wants_cluster(opened, len(hashes), cluster):
        with attach_to_cluster(_PURPOSE) as tasks:
            if _can_read(opened, tasks, is_asked=cluster is not None):
                for image in _draw_on_cluster(opened, hashes, max_bytes, tasks):
                    if image.data is not None:
                        del remaining[image.row_id]
                        yield image
    yield from draw_images(opened, remaining, max_bytes) if remaining else ()


def _wants_cluster(opened: OpenedOutput, images: int, cluster: bool | None) -> bool:
    if cluster is None:
        return images >= MANY and cluster_address() is not None
    return cluster


def _can_read(opened: OpenedOutput, tasks: ClusterTasks, *, is_asked: bool) -> bool:
    """Whether all machines of a cluster see the run and its images.

    Raises:
        UsageError: If they do not, and the cluster was asked for.
    """
    job = current_job(opened.plan, CommitLog(opened.store, opened.plan.rows).state)
    paths = [*job.local_paths(), *([opened.store.root] if opened.location.is_local else [])]
    if not paths or tasks.machines == 1 or job.compute.shared_filesystem:
        return True
    if is_asked:
        raise UsageError(
            f"{paths[0]} is a path on a disk, and the cluster has {tasks.machines} machines: leave out --cluster to "
            "draw the pictures on this one"
        )
    return False


def _draw_on_cluster(
    opened: OpenedOutput, hashes: Mapping[int, str], max_bytes: int, tasks: ClusterTasks
) -> Iterator[DrawnImage]:
    pairs = sorted(hashes.items())
    parts = [dict(pairs[start : start + _PART_IMAGES]) for start in range(0, len(pairs), _PART_IMAGES)]
    for _, images in tasks.run_all(draw_part, [(opened.location, part, max_bytes) for part in parts]):
        yield from images
