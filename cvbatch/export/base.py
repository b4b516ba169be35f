"""What formats of other tools have in common: the images that they get, how they are asked, and the table of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Final, Protocol

from cvbatch.errors import UsageError
from cvbatch.export.image_batch import ImageBatch as ImageBatch
from cvbatch.export.targets import ExportTarget
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.where import unknown_name
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION, Task

RLE: Final = "rle"
POLYGONS: Final = "polygons"
NO_MASKS: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """What only some formats take; None is the default of the format."""

    masks: str | None = None
    """`rle`, `polygons`, or `none` for boxes only."""
    images_per_file: int | None = None
    """Most images in one file, where a format is split into several."""
    image_prefix: str | None = None
    """Goes in front of the name of each image, such as the address of a web server."""
    images: str | None = None
    """How the images get into the export: `paths`, `bytes`, `copy`, `symlink` or `hardlink`, by the format."""
    rows: str | None = None
    """`images` or `elements`: what a row stands for."""

    def given(self) -> list[str]:
        """Names of the options that are not None."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


@dataclass(slots=True)
class RowCounts:
    """What became of the rows that were read."""

    images: int = 0
    elements: int = 0
    failed: int = 0
    removed: int = 0
    repeats: int = 0
    """Elements that are left out because they repeat."""


class ExportJob(Protocol):
    """What is to be exported."""

    @property
    def opened(self) -> OpenedOutput:
        """The run."""
        ...

    @property
    def model(self) -> ModelSpec | None:
        """The model whose answers are wanted; None for a format that takes all columns."""
        ...

    @property
    def target(self) -> ExportTarget:
        """Where to write."""
        ...

    @property
    def options(self) -> FormatOptions:
        """Options of the format."""
        ...

    @property
    def counts(self) -> RowCounts:
        """For the report; `iter_batches` counts, and who does not use it counts itself."""
        ...

    def iter_batches(self, columns: Sequence[str] = (), *, batch_rows: int | None = None) -> Iterator[ImageBatch]:
        """The images that take part, in memory that does not grow with the run; can be called again.

        Failed images, and those that were removed from the source, are left out and counted.

        Args:
            columns: Further columns of the predictions for `ImageBatch.images`.
            batch_rows: Most images of a batch; by default as many as fit well, fewer if there are masks.
        """
        ...


class Exporter(ABC):
    """Writes one format.

    Args:
        job: What to export.
    """

    def __init__(self, job: ExportJob) -> None:
        self.job = job

    @property
    def model(self) -> ModelSpec:
        """The model, for formats that have one."""
        if self.job.model is None:
            raise TypeError(f"{type(self).__name__} is in no row of EXPORTERS that has tasks")
        return self.job.model

    @abstractmethod
    def export(self) -> Mapping[str, int]:
        """Write everything.

        Returns:
            Further counts for the report, such as elements that the format cannot express, by what they are.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """One row of `EXPORTERS`: what is known of a format before its module is imported."""

    description: str
    """One line for the help."""
    loader: str
    """`module:class` of the `Exporter`, below `cvbatch.export`."""
    tasks: tuple[Task, ...]
    """What a model may do; the first that the run has a model for is taken. Empty for a format of all columns."""
    extra: str | None = None
    """Our extra that installs what it needs."""
    is_folder: bool = True
    """Whether it is a folder; else one file."""
    may_exist: bool = False
    """Whether an export may change one that exists."""
    registers_files: bool = False
    """Whether it names the files of the run as they are, so that nothing can be chosen or left out."""
    names_files: bool = False
    """Whether it has a file for each image, so that names must differ in more than `.jpg` or `.png`."""
    options: frozenset[str] = frozenset()
    """Fields of `FormatOptions` that it takes."""

    def load_exporter(self) -> type[Exporter]:
        """Import the class that writes the format."""
        module, _, name = self.loader.partition(":")
        exporter: type[Exporter] = getattr(import_module(f"cvbatch.export.{module}"), name)
        return exporter


ALL_TASKS: Final = (DETECTION, SEGMENTATION, CLASSIFICATION)
_TASKS_AND_VECTORS: Final = (*ALL_TASKS, EMBEDDING)
EXPORTERS: Final[Mapping[str, ExportFormat]] = {
    "coco": ExportFormat(
        description="COCO JSON: boxes, masks as RLE or polygons, keypoints",
        loader="coco:CocoExporter",
        tasks=(DETECTION, SEGMENTATION),
        is_folder=False,
        options=frozenset({"masks"}),
    ),
    "yolo": ExportFormat(
        description="YOLO: a text file per image with boxes or polygons, data.yaml, and links to the images",
        loader="yolo:YoloExporter",
        tasks=(DETECTION, SEGMENTATION),
        names_files=True,
        options=frozenset({"masks"}),
    ),
    "voc": ExportFormat(
        description="Pascal VOC: an XML file per image with boxes",
        loader="voc:VocExporter",
        tasks=(DETECTION,),
        names_files=True,
    ),
    "cvat": ExportFormat(
        description="CVAT for images 1.1: boxes, masks or polygons, points, tags",
        loader="cvat:CvatExporter",
        tasks=ALL_TASKS,
        options=frozenset({"masks", "images_per_file"}),
    ),
    "label-studio": ExportFormat(
        description="Label Studio: tasks with pre-annotations, and the labelling interface",
        loader="label_studio:LabelStudioExporter",
        tasks=ALL_TASKS,
        options=frozenset({"masks", "images_per_file", "image_prefix"}),
    ),
    "csv": ExportFormat(
        description="CSV: a row per image, with lists as JSON, or a row per box",
        loader="csv_rows:CsvExporter",
        tasks=_TASKS_AND_VECTORS,
        is_folder=False,
        options=frozenset({"rows"}),
    ),
    "geojson": ExportFormat(
        description="GeoJSON: boxes in longitude and latitude, of GeoTIFFs",
        loader="geojson:GeoJsonExporter",
        tasks=(DETECTION,),
        is_folder=False,
    ),
    "webdataset": ExportFormat(
        description="WebDataset: tars with the bytes of each image and its labels as JSON",
        loader="webdataset:WebDatasetExporter",
        tasks=_TASKS_AND_VECTORS,
        options=frozenset({"images_per_file"}),
    ),
    "huggingface": ExportFormat(
        description="Hugging Face datasets: Parquet with features, for load_dataset",
        loader="huggingface:HuggingFaceExporter",
        tasks=_TASKS_AND_VECTORS,
        extra="huggingface",
        options=frozenset({"images", "images_per_file"}),
    ),
    "image-folder": ExportFormat(
        description="a folder for each class, with links to its images",
        loader="image_folder:ImageFolderExporter",
        tasks=(CLASSIFICATION,),
        options=frozenset({"images"}),
    ),
    "fiftyone": ExportFormat(
        description="FiftyOne's dataset on disk, for fiftyone.Dataset.from_dir",
        loader="fiftyone:FiftyOneExporter",
        tasks=_TASKS_AND_VECTORS,
        options=frozenset({"images"}),
    ),
    "delta": ExportFormat(
        description="a Delta table over the files of the run, which are not copied",
        loader="delta:DeltaExporter",
        tasks=(),
        extra="delta",
        may_exist=True,
        registers_files=True,
    ),
    "iceberg": ExportFormat(
        description="an Iceberg table over the files of the run, which are not copied",
        loader="iceberg:IcebergExporter",
        tasks=(),
        extra="iceberg",
        may_exist=True,
        registers_files=True,
    ),
}
"""All formats, by name."""


def find_format(name: str) -> ExportFormat:
    """The format of this name.

    Raises:
        UsageError: If there is none; the message has similar names.
    """
    if name not in EXPORTERS:
        raise UsageError(unknown_name("format", name, list(EXPORTERS)))
    return EXPORTERS[name]
