"""A worker of a training, from its start to what it returns."""

from __future__ import annotations

import torch

from cvbatch.config.train_job import TrainJob
from cvbatch.engine.training_workers import WorkerPlace
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.output.store import open_store
from cvbatch.training.log import TrainingLog
from cvbatch.training.plan import load_training_plan


def learn(job: TrainJob, attempt: int, place: WorkerPlace) -> bool:
    """Learn to the end, or to a request to stop.

    Args:
        job: The training.
        attempt: Number of the attempt.
        place: Where this worker works.

    Returns:
        Whether the training is finished.

    Raises:
        HaltError: If the loss diverges.
        FencedError: If a newer attempt has taken the training over.
    """
    import_torchvision()
    from cvbatch.training.torch.loop import TrainingLoop
    from cvbatch.training.torch.setup import LearningSetup

    torch.set_num_threads(place.threads)
    store = open_store(job.output.location)
    log = TrainingLog(store)
    log.check_attempt(attempt)
    plan = load_training_plan(store)
    assert plan is not None, "the plan is stored before workers start"
    setup = LearningSetup(job, plan, log, attempt, place)
    try:
        return TrainingLoop(setup).run()
    finally:
        setup.reader.close()
