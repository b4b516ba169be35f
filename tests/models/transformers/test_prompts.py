"""Prompts of a job as token ids, and what is refused in one line before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.job import Job, ModelConfig
from cvbatch.config.job_file import load_job
from cvbatch.errors import ModelError
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from tests.rigs.prompted_models import save_clip, save_grounding_dino, save_owl, save_siglip
from tests.rigs.tokenizers import END
from tests.rigs.transformers_models import save_vit


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    saves = {"clip": save_clip, "siglip": save_siglip, "owl": save_owl, "dino": save_grounding_dino, "vit": save_vit}
    return {name: save(tmp_path_factory.mktemp("models") / name) for name, save in saves.items()}


def resolve(folder: Path | str, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}", **options})])
    return spec


def test_prompts_are_the_categories(folders: dict[str, Path]) -> None:
    spec = resolve(folders["clip"], prompts=["cat", "  small   dog "], template="a photo of a {}")
    assert (spec.task, spec.categories, spec.top_k) == ("classification", ("cat", "small dog"), 2)
    assert [len(tokens) for tokens in spec.options["tokens"]] == [7, 8]
    assert spec.options["tokens"][0][-1] == END
    assert resolve(folders["clip"]).task == "embedding"
    assert "tokens" not in resolve(folders["clip"]).options


def test_a_file_has_a_prompt_on_each_line(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "things.txt").write_text("red car\na person, with a cup\n\n")
    entry = f"{{model: 'hf:{folders['owl']}', prompts: things.txt}}"
    (tmp_path / "job.yaml").write_text(f"source: {{uri: photos}}\nmodels: [{entry}]\noutput: {{uri: out}}\n")
    job = load_job(str(tmp_path / "job.yaml"))
    assert str(tmp_path / "things.txt") in job.local_files()
    (spec,) = resolve_models(job.models)
    assert spec.categories == ("red car", "a person, with a cup")


def test_prompts_are_part_of_the_run(folders: dict[str, Path]) -> None:
    def identity(**options: Any) -> Any:
        model = {"model": f"hf:{folders['clip']}", **options}
        return Job.model_validate({"source": {"uri": "a"}, "models": [model], "output": {"uri": "b"}}).identity()

    assert "prompts" not in identity()["models"][0]
    assert identity(prompts=["cat"]) != identity(prompts=["dog"])
    assert identity(prompts=["cat"]) != identity(prompts=["cat"], template="a {}")


def test_long_lists_are_split(folders: dict[str, Path]) -> None:
    prompts = ["the small red bird", "a cat", "a dog", "the small table", "cup on a chair with", "tree."]
    options = resolve(folders["dino"], prompts=prompts).options
    assert [len(tokens) for tokens in options["tokens"]] == [23, 4]
    first = [-1, *[0] * 4, -1, 1, 1, -1, 2, 2, -1, 3, 3, 3, -1, *[4] * 5, -1, -1]
    assert options["owners"] == [first, [-1, 5, -1, -1]]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("clip", {"prompts": []}, "prompts: expected at least one text, such as [cat, dog], got none"),
        ("clip", {"prompts": ["cat", " "]}, "prompts: expected a text in each place, got none in place 2"),
        ("clip", {"prompts": ["cat", "dog", "cat"]}, "prompts: 'cat' stands there 2 times"),
        ("clip", {"prompts": "none.txt"}, "prompts: cannot read none.txt"),
        ("clip", {"prompts": ["cat " * 15]}, "takes prompts of 1 to 16 tokens, got 17: 'cat cat"),
        ("dino", {"prompts": ["cat " * 22]}, "takes prompts of 1 to 21 tokens, got 22"),
        ("dino", {"prompts": ["."]}, "takes prompts of 1 to 21 tokens, got 0: ''"),
        ("dino", {"prompts": ["cat"], "template": "a {}"}, "gets all prompts in one text: leave it out"),
        ("clip", {"prompts": ["cat"], "template": "a photo"}, "expected a text with one {} for the prompt"),
        ("clip", {"template": "a {}"}, "template: is a sentence for prompts:, and there are none"),
        ("clip", {"prompts": ["cat"], "categories": ["dog"]}, "categories: are the prompts"),
        ("clip", {"prompts": ["cat"], "task": "embedding"}, "CLIPModel does classification, not embedding"),
        (
            "clip",
            {"task": "classification"},
            "CLIPModel does embedding, not classification: choose another task or model, or give prompts:",
        ),
        ("owl", {}, "OwlViTForObjectDetection finds what prompts: say: give some, such as prompts: [cat, dog]"),
        ("dino", {}, "GroundingDinoForObjectDetection finds what prompts: say"),
        ("vit", {"prompts": ["cat"]}, "ViTForImageClassification takes no prompts: leave prompts: out"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], words: str, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(folders[name], **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [{"prompts": ["cat"]}, {"template": "a {}"}])
def test_other_kinds_of_models_take_none(option: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r": resnet18 compares images with no texts: leave it out"):
        resolve_models([ModelConfig.model_validate({"model": "resnet18", **option})])


def test_a_tokenizer_is_needed(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "tiny")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="prompts need its tokenizer, which cannot be loaded: ") as caught:
        resolve(folder, prompts=["cat"])
    assert "\n" not in str(caught.value)
