"""Why objects are wrong, in the six kinds of TIDE, and how much AP each kind costs.

D. Bolya, S. Foley, J. Hays, J. Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors. ECCV 2020.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from cvbatch.evaluation.coco_evaluator import ObjectKind, ObjectPair, match_objects
from cvbatch.truth.base import Ints

MATCH_IOU: Final = 0.5
BACKGROUND_IOU: Final = 0.1
CLASS: Final = "class"
PLACE: Final = "place"
BOTH: Final = "both"
DOUBLE: Final = "double"
NOTHING: Final = "background"
MISSED: Final = "missed"
_KINDS: Final = {"Cls": CLASS, "Loc": PLACE, "Both": BOTH, "Dupe": DOUBLE, "Bkg": NOTHING, "Miss": MISSED}
_MOST_TIMES: Final = 4
"""Times `ObjectKind.most_objects` predictions whose errors are told apart; all classes of an image are needed at once,
so of more a sample of the images is taken. A million boxes take about 700 MB."""


def find_error_kinds(pair: ObjectPair, labels: Ints, kind: ObjectKind, evaluator: Any = None) -> dict[str, Any]:
    """Count the kinds of error, and what AP at IoU 0.5 would gain if each were repaired.

    Args:
        pair: Truth and predictions.
        labels: The classes to judge.
        kind: Boxes or masks.
        evaluator: What `match_objects` has returned for all of it, if it is there.

    Returns:
        Plain data: for `class` (right place, wrong class), `place` (right class, badly placed: IoU from 0.1 to 0.5),
        `both`, `double` (a second one on the same object), `background` (nothing is there) and `missed` (objects that
        nobody claims) the count and the AP that it costs; and the number of images.
    """
    images = sample_images(pair, kind.most_objects * _MOST_TIMES)
    if evaluator is None or len(images) < len(pair.images):
        evaluator = match_objects(pair.of_images(images), labels, kind)
    found = evaluator.tide_errors(pos_thr=MATCH_IOU, bg_thr=BACKGROUND_IOU)
    return {
        "images": len(images),
        "AP50": found["ap_base"],
        "kinds": {
            ours: {"count": int(found["counts"][theirs]), "AP50 lost": max(0.0, float(found["delta_ap"][theirs]))}
            for theirs, ours in _KINDS.items()
        },
        "all false positives": {"AP50 lost": found["delta_ap"]["FP"]},
        "all missed objects": {"AP50 lost": found["delta_ap"]["FN"]},
    }


def sample_images(pair: ObjectPair, most_objects: int) -> Ints:
    """All images, or as many of them by chance as have so many predictions together.

    Args:
        pair: Truth and predictions.
        most_objects: Most predictions.
    """
    counts = np.bincount(pair.predicted.image_indices, minlength=len(pair.sizes))[pair.images]
    if counts.sum() <= most_objects:
        return pair.images
    order = np.random.default_rng(0).permutation(len(pair.images))
    return np.sort(pair.images[order[np.cumsum(counts[order]) <= most_objects]])
