"""Feeds truth and predictions to hotcoco, which gives the numbers of COCO's own evaluation bit by bit, and faster.

T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014; the measures are those of cocodataset.org. LVIS:
A. Gupta, P. Dollár, R. Girshick: LVIS: A Dataset for Large Vocabulary Instance Segmentation. CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.predicted_objects import PredictedObjects
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.truth.base import Bools, Ints
from cvbatch.truth.objects import ObjectTruth

LVIS_DETECTIONS: Final = 300
"""Objects that LVIS takes of an image, those with the best scores, of all classes together."""
_FEDERATED: Final = ("neg_category_ids", "not_exhaustive_category_ids")


@dataclass(frozen=True)
class ObjectKind:
    """What is compared: boxes, masks or keypoints."""

    name: str
    iou_type: str
    """COCO's name."""
    most_objects: int
    """Predictions that are evaluated together; more are split by class, so that memory stays bounded."""


BOXES: Final = ObjectKind("boxes", "bbox", 1_000_000)
MASKS: Final = ObjectKind("masks", "segm", 200_000)
KEYPOINTS: Final = ObjectKind("keypoints", "keypoints", 200_000)


@dataclass(frozen=True, kw_only=True)
class ObjectPair:
    """Truth and predictions of the same images."""

    truth: ObjectTruth
    """In pixels."""
    predicted: PredictedObjects
    images: Ints
    """Positions of the images to judge; objects of others are not in `truth` and `predicted`."""
    sizes: npt.NDArray[np.int32]
    """(images of the truth, 2): width and height."""

    def of_classes(self, labels: Ints) -> ObjectPair:
        """Only the objects of some classes."""
        chosen = _mask_of(labels, len(self.truth.categories))
        return ObjectPair(
            truth=self.truth.restrict(chosen[self.truth.labels]),
            predicted=self.predicted.restrict(chosen[self.predicted.labels]),
            images=self.images,
            sizes=self.sizes,
        )

    def of_images(self, images: Ints) -> ObjectPair:
        """Only some images."""
        chosen = _mask_of(images, len(self.sizes))
        return ObjectPair(
            truth=self.truth.restrict(chosen[self.truth.image_indices]),
            predicted=self.predicted.restrict(chosen[self.predicted.image_indices]),
            images=images,
            sizes=self.sizes,
        )


def _mask_of(positions: Ints, length: int) -> Bools:
    mask = np.zeros(length, np.bool_)
    mask[positions] = True
    return mask


def match_objects(pair: ObjectPair, labels: Ints, kind: ObjectKind) -> Any:
    """Match predictions with truth.

    Args:
        pair: Truth and predictions.
        labels: The classes to judge, as positions in the categories of the truth.
        kind: What is compared.

    Returns:
        A `hotcoco.COCOeval` that has matched. Ids of images and categories are positions in the truth plus one.
    """
    import hotcoco

    truth, predicted = _FEEDS[kind.name](hotcoco, pair, labels)
    is_lvis = pair.truth.image_facts is not None and kind is not KEYPOINTS  # LVIS knows none
    evaluator = hotcoco.COCOeval(truth, predicted, kind.iou_type, lvis_style=is_lvis)
    if kind is KEYPOINTS and pair.truth.keypoints is not None:
        evaluator.params.kpt_oks_sigmas = keypoint_sigmas(pair.truth.keypoints.shape[1])
    evaluator.evaluate()
    return evaluator


def keypoint_sigmas(count: int) -> list[float]:
    """How far keypoints may lie off: COCO's for the 17 of a person, else the same for all, as Ultralytics takes it.

    Args:
        count: Number of keypoints.
    """
    import hotcoco

    usual: list[float] = hotcoco.Params("keypoints").kpt_oks_sigmas
    return usual if count == len(usual) else [1 / count] * count


def best_per_image(predicted: PredictedObjects, count: int) -> PredictedObjects:
    """The objects with the best scores in each image.

    Args:
        predicted: All objects.
        count: Most objects of an image.
    """
    order = np.lexsort((-predicted.scores, predicted.image_indices))  # lexsort is stable
    images = predicted.image_indices[order]
    rank = np.arange(len(order)) - np.searchsorted(images, images)
    return predicted.restrict(np.sort(order[rank < count]))


def _feed_boxes(hotcoco: Any, pair: ObjectPair, labels: Ints) -> tuple[Any, Any]:
    truth = hotcoco.COCO.from_arrays(*_columns(pair, labels), area=pair.truth.areas, iscrowd=pair.truth.is_crowd)
    return truth, truth.load_res(_result_array(pair.predicted))


def _feed_masks(hotcoco: Any, pair: ObjectPair, labels: Ints) -> tuple[Any, Any]:
    assert pair.truth.segmentations is not None
    assert pair.predicted.masks is not None
    sizes = pair.sizes[:, ::-1].tolist()  # height, width
    areas = pair.truth.areas
    if areas is None:
        areas = mask_areas(pair.truth, pair.sizes)
    truth = hotcoco.COCO.from_arrays(
        *_columns(pair, labels), area=areas, iscrowd=pair.truth.is_crowd, segmentation=list(pair.truth.segmentations)
    )
    images = pair.predicted.image_indices.tolist()
    masks = [
        {"size": sizes[image], "counts": counts}
        for image, counts in zip(images, pair.predicted.masks.to_pylist(), strict=True)
    ]
    predicted = truth.load_res(_result_array(pair.predicted), segmentation=masks)
    if masks:  # of results without boxes COCO takes the areas of the masks
        predicted.update_anns(ids=np.arange(1, len(masks) + 1), area=hotcoco.mask.area(masks).astype(np.float64))
    return truth, predicted


def mask_areas(truth: ObjectTruth, sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Pixels of each object by its segmentation.

    Args:
        truth: In pixels, with a segmentation for each object.
        sizes: (images, 2): width and height.
    """
    import hotcoco

    areas = np.zeros(len(truth.labels))
    for index in range(len(truth.segmentations or ())):
        areas[index] = hotcoco.mask.area(true_mask(truth, sizes, index))
    return areas


def true_mask(truth: ObjectTruth, sizes: npt.NDArray[np.int32], index: int) -> dict[str, Any]:
    """COCO's RLE of one object.

    Args:
        truth: In pixels, with a segmentation for each object.
        sizes: (images, 2): width and height.
        index: Position of the object.
    """
    import hotcoco

    assert truth.segmentations is not None
    segmentation: Any = truth.segmentations[index]
    width, height = (int(side) for side in sizes[truth.image_indices[index]])
    if isinstance(segmentation, list):
        segmentation = hotcoco.mask.merge([hotcoco.mask.fr_poly(part, height, width) for part in segmentation])
    mask: dict[str, Any] = hotcoco.mask.frPyObjects(segmentation, height, width)
    return mask


def _feed_keypoints(hotcoco: Any, pair: ObjectPair, labels: Ints) -> tuple[Any, Any]:
    images, categories, image_ids, category_ids, boxes = _columns(pair, labels)
    points, truth = pair.truth.keypoints, pair.truth
    assert points is not None
    assert pair.predicted.keypoints is not None
    areas = truth.areas if truth.areas is not None else boxes[:, 2] * boxes[:, 3]
    annotations = [
        {
            "id": index + 1,
            "image_id": int(image_ids[index]),
            "category_id": int(category_ids[index]),
            "bbox": boxes[index].tolist(),
            "area": float(areas[index]),
            "iscrowd": int(truth.is_crowd[index]),
            "keypoints": points[index].ravel().tolist(),
            "num_keypoints": int((points[index, :, 2] > 0).sum()),
        }
        for index in range(len(image_ids))
    ]
    coco = hotcoco.COCO({"images": images, "categories": categories, "annotations": annotations})
    predicted = pair.predicted
    results = [
        {"image_id": image + 1, "category_id": label + 1, "keypoints": numbers, "score": score}
        for image, label, numbers, score in zip(
            predicted.image_indices.tolist(),
            predicted.labels.tolist(),
            pair.predicted.keypoints.astype(np.float64).tolist(),
            predicted.scores.astype(np.float64).tolist(),
            strict=True,
        )
    ]
    return coco, coco.load_res(results)


_FEEDS: Final = {BOXES.name: _feed_boxes, MASKS.name: _feed_masks, KEYPOINTS.name: _feed_keypoints}


def _columns(pair: ObjectPair, labels: Ints) -> tuple[list[Any], list[Any], Ints, Ints, npt.NDArray[np.float64]]:
    """Images, categories, and the columns of the annotations."""
    truth, sizes = pair.truth, pair.sizes.tolist()
    images = [
        {"id": image + 1, WIDTH: sizes[image][0], HEIGHT: sizes[image][1], **_facts(truth, image, set(labels.tolist()))}
        for image in pair.images.tolist()
    ]
    frequencies = truth.frequencies
    categories = [
        {"id": label + 1, "name": truth.categories[label]} | ({"frequency": frequencies[label]} if frequencies else {})
        for label in labels.tolist()
    ]
    return images, categories, truth.image_indices + 1, truth.labels + 1, truth.boxes


def _facts(truth: ObjectTruth, image: int, labels: set[int]) -> dict[str, list[int]]:
    if truth.image_facts is None:
        return {}
    facts = truth.image_facts[image]
    return {name: [label + 1 for label in facts[name] if label in labels] for name in _FEDERATED}


def _result_array(predicted: PredictedObjects) -> npt.NDArray[np.float64]:
    """(n, 7): image, x, y, width, height, score, category."""
    return np.column_stack(
        [predicted.image_indices + 1, predicted.boxes_xywh(), predicted.scores, predicted.labels + 1]
    ).astype(np.float64)
