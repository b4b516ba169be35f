from __future__ import annotations

import numpy as np

from cvbatch.config.train_job import NO_CHANGES, AugmentConfig
from cvbatch.training.changes import DrawnChange, draw_change


def test_a_change_depends_on_seed_epoch_and_image_alone() -> None:
    config = AugmentConfig()
    one = draw_change(config, (64, 48), 1, 2, 3)
    assert one == draw_change(config, (64, 48), 1, 2, 3)
    others = [draw_change(config, (64, 48), *where) for where in ((0, 2, 3), (1, 0, 3), (1, 2, 0))]
    assert one not in others


def test_crops_lie_within_the_image_and_have_the_area_that_is_asked_for() -> None:
    config = AugmentConfig(crop=(0.25, 0.5), aspect=1.2)
    drawn = [draw_change(config, (640, 480), 0, 0, image) for image in range(500)]
    areas = np.array([change.width * change.height for change in drawn]) / (640 * 480)
    assert 0.24 < areas.min() < 0.27
    assert 0.48 < areas.max() < 0.51
    assert all(change.left + change.width <= 640 and change.top + change.height <= 480 for change in drawn)
    assert 0.4 < np.mean([change.flip for change in drawn]) < 0.6


def test_without_changes_nothing_happens() -> None:
    assert draw_change(NO_CHANGES, (31, 17), 0, 0, 0) == DrawnChange(0, 0, 31, 17, False, 1.0, 1.0, 1.0)
