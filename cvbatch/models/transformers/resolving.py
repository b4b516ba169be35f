"""From the files of a model and a job's entry to everything that workers need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models.categories import own_categories
from cvbatch.models.transformers.architectures import Architecture, find_architecture
from cvbatch.models.transformers.files import ModelFolder
from cvbatch.models.transformers.processors import plan_preparation
from cvbatch.models.transformers.prompts import TEXT_RULES, tokenize_prompts
from cvbatch.models.transformers.reading import Activation, TransformersReading
from cvbatch.tasks import DETECTION, SEGMENTATION, TASKS
from cvbatch.tasks.base import Task

Categories = tuple[str | None, ...]
_NOT_STORED: Final = ("id2label", "label2id", "auto_map", "_name_or_path", "torch_dtype", "dtype", "num_labels")
_DEFAULT_CLASSES: Final = 2
"""Of transformers, which do not write them then."""
_NOT_EMITTED: Final = "N/A"
_OF_MASKS: Final = frozenset(("overlapping_masks", "exclusive_masks"))
"""Heads that give masks of instances; their scores of masks also make label maps."""
_PATCHES: Final = "prompted_patches"
"""Head whose boxes are fractions of the prepared image."""
_FOREIGN_WEIGHTS: Final = "use_pretrained_backbone"
"""Key by which a model would fetch other weights of its backbone before its own replace them."""


@dataclass(frozen=True, slots=True)
class ResolvedFolder:
    """A model, completely described but for its weights."""

    task: Task
    view: View
    reading: TransformersReading
    categories: Categories

    @property
    def masks(self) -> bool:
        """Whether it gives masks of instances."""
        return self.reading.head in _OF_MASKS


def resolve_folder(folder: ModelFolder, config: ModelConfig) -> ResolvedFolder:
    """Read the description of a model.

    Args:
        folder: Its files.
        config: The job's entry.

    Raises:
        ModelError: The model does something else, or a part of its description is missing or not supported.
        UsageError: transformers is missing.
    """
    content = folder.read_config()
    prompted = config.prompts is not None
    architecture = find_architecture(content, folder.title, prompted=prompted)
    task = _choose_task(architecture, config, folder.title)
    names = _class_names(content, folder.title)
    preparation = plan_preparation(
        folder.read_processor(), folder.title, covers_image=task.covers_image or architecture.head == _PATCHES
    )
    head = architecture.head
    rule = None if head in _OF_MASKS else preparation.queries
    if (rule is None) == (task is DETECTION and head not in _OF_MASKS):
        raise ModelError(
            f"{folder.title}: {architecture.name} and the processor in preprocessor_config.json do not belong "
            "together: expected the processor that the model was published with"
        )
    texts = tokenize_prompts(folder, config, content, architecture.name) if prompted else None
    reading = TransformersReading(
        architecture=architecture.name,
        config=_stored_config(content, len(names)),
        revision=folder.revision,
        head="masks_to_pixels" if head in _OF_MASKS and task is SEGMENTATION else head,
        activation=_activation(content, len(names), prompted) if rule is None else rule.activation,
        most_boxes=None if rule is None else rule.most,
        threshold=None if rule is None else rule.threshold,
        square=rule is not None and rule.square,
        mean=preparation.mean,
        std=preparation.std,
        bgr=preparation.bgr,
        template=None if texts is None else texts.template,
        tokens=[] if texts is None else texts.tokens,
        owners=[] if texts is None else texts.owners,
    )
    categories = _categories(names, config, task, folder.title) if texts is None else texts.prompts
    return ResolvedFolder(task, preparation.view, reading, categories)


def _choose_task(architecture: Architecture, config: ModelConfig, title: str) -> Task:
    if config.prompts is None and config.template is not None:
        raise ModelError("template: is a sentence for prompts:, and there are none: give prompts: or leave it out")
    if config.prompts is not None and config.categories is not None:
        raise ModelError("categories: are the prompts: leave categories: out")
    name = config.task or architecture.tasks[0]
    if name in architecture.tasks:
        return TASKS[name]
    hint = ", or give prompts:" if config.prompts is None and architecture.name in TEXT_RULES else ""
    raise ModelError(
        f"{title}: {architecture.name} does {' and '.join(architecture.tasks)}, not {name}: choose another task or "
        f"model{hint}"
    )


def _stored_config(content: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """The description without what is stored elsewhere, so that nothing but the model's own weights is ever loaded."""
    config = {key: value for key, value in content.items() if key not in _NOT_STORED} | {"num_labels": classes}
    return config | {key: False for key in (_FOREIGN_WEIGHTS,) if key in config}


def _class_names(content: Mapping[str, Any], title: str) -> list[str]:
    """The name of each label id, as transformers call them if the model does not."""
    given = content.get("id2label")
    if not isinstance(given, Mapping) or not given:
        count = content.get("num_labels", _DEFAULT_CLASSES)
        if not isinstance(count, int) or count < 0:
            raise ModelError(f"{title}: expected id2label: in config.json, with names by label id, got {given!r}")
        return [f"LABEL_{label}" for label in range(count)]
    if not all(str(label).isdecimal() for label in given):
        raise ModelError(f"{title}: expected numbers as label ids in id2label: of config.json, got {next(iter(given))}")
    by_id = {int(label): str(name) for label, name in given.items()}
    count = max(by_id) + 1
    if count > max(2 * len(by_id), 1000):
        raise ModelError(f"{title}: expected label ids from 0 on in id2label: of config.json, got {max(by_id)}")
    return [by_id.get(label, _NOT_EMITTED) for label in range(count)]


def _categories(names: list[str], config: ModelConfig, task: Task, title: str) -> Categories:
    """The names that the job gives, or else the model."""
    if not task.has_labels:
        return ()
    if config.categories is None:
        return tuple(None if name == _NOT_EMITTED else name for name in names)
    own = own_categories(config, task.name)
    if len(own) != len(names):
        raise ModelError(f"{title} has {len(names)} classes, and there are {len(own)} categories: give one name each")
    return own


def _activation(content: Mapping[str, Any], classes: int, prompted: bool) -> Activation:
    """As the pipelines of transformers decide it."""
    if prompted:
        return "sigmoid" if "siglip" in str(content.get("model_type")) else "softmax"
    return "sigmoid" if content.get("problem_type") == "multi_label_classification" or classes == 1 else "softmax"
