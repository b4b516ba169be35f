"""`cvbatch train`: a model from images and their truth."""

from __future__ import annotations

import argparse
from typing import Any

from cvbatch.cli.arguments import (
    JSON_HELP,
    Subparsers,
    add_command_parser,
    add_lease_arguments,
    add_set_argument,
    add_storage_argument,
)
from cvbatch.cli.common import describe_same_command, print_json, stop_on_signals


def add_command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command_parser(
        subparsers,
        "train",
        "train a model on images and their truth",
        "Train a model on images and their truth. The same command goes on with a training that was interrupted. The "
        "output is a model: cvbatch run --model OUTPUT.",
    )
    parser.set_defaults(command=train_command)
    parser.add_argument("job", metavar="JOB.yaml", help="job file with task, model, source, truth and output")
    add_set_argument(parser, "override a key of the job by its dotted path, such as stages.0.epochs=3")
    add_lease_arguments(parser)
    add_storage_argument(parser, "how to access a job file in a bucket")
    parser.add_argument(
        "--export",
        choices=["onnx"],
        help="also write the result as OUTPUT/model.onnx, whose answers are compared with those of torch; a training "
        "that is finished is only exported",
    )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def train_command(options: argparse.Namespace) -> int:
    """Train, and print what came of it."""
    from rich.console import Console

    from cvbatch.config.train_file import load_train_job
    from cvbatch.storage.options import StorageOptions
    from cvbatch.system.standard_streams import quiet_libraries
    from cvbatch.training.fitting import train_model
    from cvbatch.training.onnx_export import check_exportable, export_to_onnx
    from cvbatch.training.screen import TrainingScreen, render_training

    storage = StorageOptions.parse_assignments(options.storage)
    job = load_train_job(options.job, overrides=options.set, storage=storage)
    if options.export:
        check_exportable(job.task)
    stopped = f"stopped; the last checkpoint is kept. Go on with: {describe_same_command(options)}"
    with quiet_libraries(), TrainingScreen(quiet=options.json) as screen, stop_on_signals(stopped):
        report = train_model(job, screen, wait=options.wait, takeover=options.takeover)
        export = export_to_onnx(job.output.location, report=screen.on_phase) if options.export else None
    answer: dict[str, Any] = report.to_json()
    if options.json:
        return print_json(answer | ({} if export is None else {"onnx": export.to_json()}))
    Console(markup=False, emoji=False).print(render_training(report, export))
    return 0
