"""Label large image archives with pretrained vision models, exactly once per image.

The public names, in the order of a workflow. Importing this package imports neither torch nor ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cvbatch import deprecated

if TYPE_CHECKING:
    from cvbatch.comparison.compare import compare_runs
    from cvbatch.config.job import Job
    from cvbatch.config.job_file import load_job
    from cvbatch.config.train_file import load_train_job
    from cvbatch.config.train_job import TrainJob
    from cvbatch.drift.measure import measure_drift
    from cvbatch.edits.functions import crop_objects, cut_out_objects, redact_images, remove_objects
    from cvbatch.errors import CvbatchError
    from cvbatch.evaluation.evaluate import evaluate
    from cvbatch.evolution.evolve import evolve_run
    from cvbatch.export.exporting import export_predictions
    from cvbatch.export.importing import import_labels
    from cvbatch.export.to_supervision import to_supervision
    from cvbatch.images.letterbox import Letterbox
    from cvbatch.images.preprocess import View
    from cvbatch.inference.python.protocol import Detections, Model
    from cvbatch.pipeline import run
    from cvbatch.repeats.repeats import find_repeats
    from cvbatch.report.write import write_report
    from cvbatch.results.elements import iter_detections, iter_segments, read_detections, read_segments
    from cvbatch.results.labelling import label
    from cvbatch.results.predictions import decode_depth, decode_mask, label_map, open_dataset, read
    from cvbatch.results.sql.connection import open_sql
    from cvbatch.results.sql.query import query_sql
    from cvbatch.sampling.choose import choose_samples
    from cvbatch.similarity.clusters import find_clusters
    from cvbatch.similarity.duplicates import find_duplicates
    from cvbatch.similarity.neighbours import find_similar
    from cvbatch.training.fitting import train_model
    from cvbatch.training.onnx_export import export_to_onnx
    from cvbatch.training.page import write_training_report
    from cvbatch.training.status import training_status

_MODULE_OF_NAME = {
    "CvbatchError": "errors",
    "Job": "config.job",
    "load_job": "config.job_file",
    "Letterbox": "images.letterbox",
    "View": "images.preprocess",
    "Detections": "inference.python.protocol",
    "Model": "inference.python.protocol",
    "run": "pipeline",
    "evolve_run": "evolution.evolve",
    "label": "results.labelling",
    "read": "results.predictions",
    "read_detections": "results.elements",
    "read_segments": "results.elements",
    "iter_detections": "results.elements",
    "iter_segments": "results.elements",
    "open_dataset": "results.predictions",
    "query_sql": "results.sql.query",
    "open_sql": "results.sql.connection",
    "label_map": "results.predictions",
    "decode_depth": "results.predictions",
    "decode_mask": "results.predictions",
    "evaluate": "evaluation.evaluate",
    "compare_runs": "comparison.compare",
    "choose_samples": "sampling.choose",
    "measure_drift": "drift.measure",
    "export_predictions": "export.exporting",
    "to_supervision": "export.to_supervision",
    "import_labels": "export.importing",
    "find_duplicates": "similarity.duplicates",
    "find_similar": "similarity.neighbours",
    "find_clusters": "similarity.clusters",
    "find_repeats": "repeats.repeats",
    "write_report": "report.write",
    "redact_images": "edits.functions",
    "crop_objects": "edits.functions",
    "cut_out_objects": "edits.functions",
    "remove_objects": "edits.functions",
    "TrainJob": "config.train_job",
    "load_train_job": "config.train_file",
    "train_model": "training.fitting",
    "training_status": "training.status",
    "export_to_onnx": "training.onnx_export",
    "write_training_report": "training.page",
}

__all__ = [  # noqa: RUF022 - in the order of a workflow
    "CvbatchError",
    "Job",
    "load_job",
    "Letterbox",
    "View",
    "Detections",
    "Model",
    "run",
    "evolve_run",
    "label",
    "read",
    "read_detections",
    "read_segments",
    "iter_detections",
    "iter_segments",
    "open_dataset",
    "query_sql",
    "open_sql",
    "label_map",
    "decode_depth",
    "decode_mask",
    "evaluate",
    "compare_runs",
    "choose_samples",
    "measure_drift",
    "export_predictions",
    "to_supervision",
    "import_labels",
    "find_duplicates",
    "find_similar",
    "find_clusters",
    "find_repeats",
    "write_report",
    "redact_images",
    "crop_objects",
    "cut_out_objects",
    "remove_objects",
    "TrainJob",
    "load_train_job",
    "train_model",
    "training_status",
    "export_to_onnx",
    "write_training_report",
]

deprecated.install_old_paths()


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module 'cvbatch' has no attribute {name!r}")
    return getattr(import_module(f"cvbatch.{_MODULE_OF_NAME[name]}"), name)
