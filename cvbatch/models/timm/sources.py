"""Where a model of timm comes from: its registry, the hub, a folder, or a checkpoint of the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import TIMM
from cvbatch.errors import ModelError
from cvbatch.models.backends.advice import similar_names_hint
from cvbatch.models.download import Report
from cvbatch.models.timm.registry import timm_registry
from cvbatch.models.transformers.files import ModelFolder, find_local_folder
from cvbatch.models.transformers.hub import find_on_hub

HUB: Final = "hf-hub:"
"""Prefix of names of the hub, as timm has it."""
_OWN: Final = "pretrained_cfg"
_LISTED: Final = "timm.list_models()"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmSource:
    """A model; its weights may still have to be fetched."""

    title: str
    """As the job names it, for messages."""
    name: str
    """Of the model in the registry or on the hub, or of the folder."""
    architecture: str
    settings: Mapping[str, Any]
    """`PretrainedCfg`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""
    folder: ModelFolder | None = None
    """The files with the weights; None for random weights and own checkpoints."""


def find_source(config: ModelConfig, *, fetch: bool, report: Report | None) -> TimmSource:
    """Find the model of a job's entry, with everything but its weights.

    Args:
        config: `model: timm` with a folder as `checkpoint`, or `model: timm:NAME`.
        fetch: Fetch what is missing from the hub.
        report: Called with what is waited for.

    Raises:
        ModelError: There is no such model, or it cannot be reached.
        UsageError: A package is missing.
    """
    if config.model == TIMM:
        return _source_of_folder(find_local_folder(str(config.checkpoint), TIMM))
    title = config.model
    name, _, revision = config.model.removeprefix(f"{TIMM}:").partition("@")
    has_no_files = config.weights is None or bool(config.checkpoint)
    if name.startswith(HUB):
        if has_no_files:
            raise ModelError(f"{title} has weights of its own: for other ones, name its architecture, as timm:resnet50")
        return _source_of_folder(_find_on_hub(name.removeprefix(HUB), revision, fetch=fetch, report=report))
    settings = _registered_settings(name, title)
    source = TimmSource(title=title, name=name, architecture=name.partition(".")[0], settings=settings)
    if has_no_files:
        return source
    hub_name = settings.get("hf_hub_id")
    if not hub_name:
        siblings = ", ".join(_published_siblings(name)[:5])
        others = f"; those of {siblings} are" if siblings else ""
        raise ModelError(
            f"{title}: its weights are not published as safetensors{others}: give another name, checkpoint: and "
            "categories:, or weights: null"
        )
    folder = _find_on_hub(str(hub_name), revision, fetch=fetch, report=report)
    return replace(source, folder=folder)


def _find_on_hub(name: str, revision: str, *, fetch: bool, report: Report | None) -> ModelFolder:
    return find_on_hub(name, revision or None, prefix=f"{TIMM}:{HUB}", fetch=fetch, report=report)


def _published_siblings(name: str) -> list[str]:
    """Names of the same architecture whose weights are on the hub."""
    prefix = f"{name.partition('.')[0]}."
    settings = timm_registry().settings
    return [tagged for tagged in settings if tagged.startswith(prefix) and settings[tagged].get("hf_hub_id")]


def _registered_settings(name: str, title: str) -> Mapping[str, Any]:
    registry = timm_registry()
    if name in registry.settings:
        return registry.settings[name]
    architecture, _, tag = name.partition(".")
    if not tag and name in registry.architectures:
        return {}
    if architecture in registry.architectures:
        known = [tagged for tagged in registry.settings if tagged.startswith(f"{architecture}.")]
        raise ModelError(f"{title}: {architecture} has no weights {tag!r}: known are {', '.join(known) or 'none'}")
    hint = similar_names_hint(name, {*registry.architectures, *registry.settings}, _LISTED)
    raise ModelError(f"{title}: the installed timm has no model {name!r}{hint}")


def _source_of_folder(folder: ModelFolder) -> TimmSource:
    """Read `config.json` as timm writes it, in its present or its earlier form."""
    content = folder.read_config()
    architecture = content.get("architecture")
    if not isinstance(architecture, str):
        what = "a model of transformers: hf:" if "architectures" in content else "none"
        raise ModelError(f"{folder.title}: expected architecture: in config.json, as timm writes it, got {what}")
    if architecture not in timm_registry().architectures:
        hint = similar_names_hint(architecture, timm_registry().architectures, _LISTED)
        raise ModelError(f"{folder.title}: the installed timm has no architecture {architecture!r}{hint}")
    inner = content.get(_OWN, content)
    if not isinstance(inner, Mapping):
        raise ModelError(f"{folder.title}: expected a mapping as {_OWN}: in config.json, got {type(inner).__name__}")
    settings = dict(inner)
    if "labels" in settings:  # of earlier versions
        settings["label_names"] = settings.pop("labels")
    settings |= {key: content[key] for key in ("num_classes", "label_names", "label_descriptions") if key in content}
    arguments = content.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise ModelError(f"{folder.title}: expected a mapping as model_args: in config.json, got {arguments!r:.60}")
    return TimmSource(
        title=folder.title,
        name=folder.name,
        architecture=architecture,
        settings=settings,
        arguments=arguments,
        folder=folder,
    )
