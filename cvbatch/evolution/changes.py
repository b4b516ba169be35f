"""Which models of a job are new, changed, renamed or gone, by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cvbatch.errors import OutputError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store
from cvbatch.planning.plan import Plan, check_same_models

Files = Mapping[str, Mapping[str, str]]
"""Files of each model as the last attempt saw them, by alias; see `check_same_models`."""


@dataclass(frozen=True, slots=True)
class ModelChanges:
    """What a job changes in the models of a run."""

    models: tuple[tuple[ModelSpec, ModelSpec | None], ...]
    """The models of the job in its order; each with the model of the run whose columns are copied, or None if its
    columns are computed. A model that describes itself only when it is loaded may have no alias yet."""
    planned: tuple[ModelSpec, ...]
    """The models of the run."""

    @property
    def computed(self) -> list[ModelSpec]:
        """Models whose columns the run does not have."""
        return [model for model, planned in self.models if planned is None]

    @property
    def is_empty(self) -> bool:
        """Whether the job has the models of the run, in their order."""
        return len(self.models) == len(self.planned) and all(
            kept is planned and _new_alias(model, kept) == planned.alias
            for (model, kept), planned in zip(self.models, self.planned, strict=True)
        )

    @property
    def only_adds(self) -> bool:
        """Whether all columns of the run stay as they are, under their names."""
        kept = {
            planned.alias for model, planned in self.models if planned and _new_alias(model, planned) == planned.alias
        }
        return kept == {spec.alias for spec in self.planned}

    def to_json(self) -> dict[str, list[str]]:
        """Return by verb what happens to which columns, such as `{"computes": ["birds"], "drops": ["detection"]}`."""
        kept = [(_new_alias(model, planned), planned.alias) for model, planned in self.models if planned is not None]
        new_aliases = {model.alias for model in self.computed}
        used = {old for _, old in kept} | new_aliases
        parts = {
            "computes": [model.alias or model.name for model in self.computed],
            "copies": [old for new, old in kept if new == old],
            "renames": [f"{old} to {new}" for new, old in kept if new != old],
            "drops": [spec.alias for spec in self.planned if spec.alias not in used],
        }
        return {verb: names for verb, names in parts.items() if names}

    def describe(self) -> str:
        """Say in a few words what happens, such as `computes birds; copies classification; drops detection`."""
        return "; ".join(f"{verb} {', '.join(names)}" for verb, names in self.to_json().items())

    def copied_models(self) -> list[ModelSpec | None]:
        """The models of the job whose columns are copied, as the new plan has them; None for computed ones."""
        return [None if planned is None else _as_in_job(planned, model) for model, planned in self.models]


def find_model_changes(store: Store, plan: Plan, models: Sequence[ModelSpec], earlier_files: Files) -> ModelChanges:
    """Compare the models of a job with those of a run.

    A model with the alias of a planned one is that one if its content is the same. Any other is a planned one renamed
    if its content is that of one whose alias the job does not have.

    Args:
        store: The output.
        plan: Its plan.
        models: Resolved models of the job.
        earlier_files: Files of the models as the last attempt saw them.
    """
    aliases, matched = {model.alias for model in models}, list[ModelSpec | None]()
    for model in models:
        candidates = [spec for spec in plan.models if spec.alias == model.alias]
        candidates = candidates or [spec for spec in plan.models if spec.alias not in aliases and spec not in matched]
        matched.append(next((spec for spec in candidates if _is_same(store, plan, spec, model, earlier_files)), None))
    return ModelChanges(tuple(zip(models, matched, strict=True)), plan.models)


def _new_alias(model: ModelSpec, planned: ModelSpec) -> str:
    return model.alias or planned.alias


def _as_in_job(planned: ModelSpec, model: ModelSpec) -> ModelSpec:
    """A planned model with the alias and the places of files of a job."""
    alias = _new_alias(model, planned)
    return replace(
        planned.with_files_of(model),
        alias=alias,
        label_map=_renamed_label_map(planned, alias),
    )


def _renamed_label_map(planned: ModelSpec, alias: str) -> str:
    """A model without a name for its categories has that of its columns."""
    return planned.label_map.replace(f" {planned.alias}", f" {alias}")


def _is_same(store: Store, plan: Plan, planned: ModelSpec, model: ModelSpec, earlier_files: Files) -> bool:
    alias = _new_alias(model, planned)
    renamed = replace(planned, alias=alias, label_map=_renamed_label_map(planned, alias))
    files = {alias: earlier_files.get(planned.alias, {})}
    try:
        check_same_models(store, replace(plan, models=(renamed,)), (model,), files, loaded=False)
    except OutputError:
        return False
    return True
