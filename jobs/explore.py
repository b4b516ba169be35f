"""Explore a finished run with pandas: `python jobs/explore.py OUTPUT`."""

from __future__ import annotations

import sys

import pandas as pd

import cvbatch


def main(output: str) -> None:
    """Print the errors, and the most frequent labels of each model."""
    images = cvbatch.read(output)
    show("images by status and format", images.groupby(["status", "format"], dropna=False).size())
    show("errors", images.loc[images.status == "error", ["image_uri", "error_type", "error_message"]])
    for column in images.columns:
        alias = column.rsplit("_", 1)[0]
        if column.endswith("_label") and f"{alias}_score" in images:
            show(f"{alias}: labels", frequent(images, column, f"{alias}_score"))
        elif column.endswith("_boxes"):
            show(f"{alias}: boxes", frequent(cvbatch.read_detections(output, alias), "label", "score"))
        elif column.endswith("_areas"):
            show(f"{alias}: segments", frequent(cvbatch.read_segments(output, alias), "label", "area"))
        elif column.endswith("_vector"):
            lengths = images[column].dropna().map(len)
            show(f"{alias}: vectors by length", lengths.value_counts())


def frequent(frame: pd.DataFrame, label: str, value: str) -> pd.DataFrame:
    """Count and mean of a value for the ten most frequent labels."""
    return frame.groupby(label)[value].agg(["count", "mean"]).nlargest(10, "count").round(3)


def show(title: str, table: pd.DataFrame | pd.Series[int]) -> None:
    """Print a title and a table."""
    sys.stdout.write(f"\n{title}\n{table.to_string() if len(table) else 'none'}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected the output of a run: python jobs/explore.py OUTPUT")
    try:
        main(sys.argv[1])
    except cvbatch.CvbatchError as error:
        sys.exit(str(error))
