"""What a job asks a model for in words: checked, and as the token ids of the model's own tokenizer.

Tokens are made once, where the run starts; workers need no tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError, try_call
from cvbatch.models.categories import read_lines
from cvbatch.models.transformers.files import ModelFolder
from cvbatch.system.extras import import_extra

_PLACE: Final = "{}"
_PAD_LEAST: Final = 3
"""Tokens of a joined text besides the prompts: one in front, one behind, and a full stop behind the last prompt."""


@dataclass(frozen=True, slots=True)
class TextRule:
    """How a class of models takes texts."""

    most: int
    """Most tokens of a text, where the model does not say it."""
    key: tuple[str, ...] = ("text_config", "max_position_embeddings")
    """Where in `config.json` it says it."""
    padded: bool = False
    """Whether each text is filled up to that number."""
    joined: bool = False
    """Whether one text has many prompts, with a full stop after each."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Prompts as a network takes them."""

    prompts: tuple[str, ...]
    """As the job gives them; they are the categories."""
    template: str | None
    tokens: list[list[int]]
    """Token ids of each text; a text has one prompt, or with `owners` several."""
    owners: list[list[int]]
    """For texts of several prompts, the prompt of each token; -1 is none."""


TEXT_RULES: Final[Mapping[str, TextRule]] = {
    "CLIPModel": TextRule(77),
    "SiglipModel": TextRule(64, padded=True),
    "OwlViTForObjectDetection": TextRule(16),
    "Owlv2ForObjectDetection": TextRule(16),
    "GroundingDinoForObjectDetection": TextRule(256, ("max_text_len",), joined=True),
}
"""By class of transformers."""


def tokenize_prompts(folder: ModelFolder, config: ModelConfig, content: Mapping[str, Any], name: str) -> PromptTokens:
    """Read the prompts of a job, and make tokens of them.

    Args:
        folder: The model, with its tokenizer.
        config: The job's entry.
        content: Content of `config.json`.
        name: Class of the model, a key of `TEXT_RULES`.

    Raises:
        ModelError: A prompt is missing, stands there twice or is too long, or there is no tokenizer.
        UsageError: transformers is missing.
    """
    rule = TEXT_RULES[name]
    prompts = _read_prompts(config)
    texts = _fill_template(prompts, config.template, folder.title, rule)
    tokenizer = _load_tokenizer(folder)
    most = _most_tokens(content, rule)
    tokens: list[list[int]] = tokenizer(texts, add_special_tokens=not rule.joined)["input_ids"]
    room = most - _PAD_LEAST if rule.joined else most
    for prompt, ids in zip(texts, tokens, strict=True):
        if not 0 < len(ids) <= room:
            raise ModelError(f"{folder.title}: takes prompts of 1 to {room} tokens, got {len(ids)}: {prompt[:60]!r}")
    if rule.joined:
        return PromptTokens(prompts, config.template, *_join_prompts(tokenizer, tokens, most))
    if rule.padded:
        tokens = tokenizer(texts, padding="max_length", max_length=most)["input_ids"]
    return PromptTokens(prompts, config.template, [list(map(int, ids)) for ids in tokens], [])


def _read_prompts(config: ModelConfig) -> tuple[str, ...]:
    given = config.prompts if config.prompts is not None else ()
    lines = read_lines(given, config, "prompts") if isinstance(given, str) else given
    prompts = tuple(" ".join(line.split()) for line in lines)
    if not prompts:
        raise ModelError("prompts: expected at least one text, such as [cat, dog], got none")
    if not all(prompts):
        raise ModelError(f"prompts: expected a text in each place, got none in place {prompts.index('') + 1}")
    prompt, count = Counter(prompts).most_common(1)[0]
    if count > 1:
        raise ModelError(f"prompts: {prompt!r} stands there {count} times, and each is a category: leave one of them")
    return prompts


def _fill_template(prompts: Sequence[str], template: str | None, title: str, rule: TextRule) -> list[str]:
    """The texts of prompts."""
    if template is not None and template.count(_PLACE) != 1:
        raise ModelError(f"template: expected a text with one {_PLACE} for the prompt, got {template!r}")
    if not rule.joined:
        return [prompt if template is None else template.replace(_PLACE, prompt) for prompt in prompts]
    if template is not None:
        raise ModelError(f"template: {title} gets all prompts in one text: leave it out")
    return [prompt.lower().rstrip(" .") for prompt in prompts]


def _load_tokenizer(folder: ModelFolder) -> Any:
    transformers = import_extra("transformers", "transformers", folder.title)
    loaded = try_call(
        lambda: transformers.AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    )
    if isinstance(loaded, Exception):
        line = " ".join(str(loaded).split())[:200]
        raise ModelError(f"{folder.title}: prompts need its tokenizer, which cannot be loaded: {line}")
    return loaded


def _most_tokens(content: Mapping[str, Any], rule: TextRule) -> int:
    value: Any = content
    for key in rule.key:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else rule.most


def _join_prompts(tokenizer: Any, prompts: list[list[int]], most: int) -> tuple[list[list[int]], list[list[int]]]:
    """As few texts of several prompts as there can be, with the prompt of each token.

    As `GroundingDinoProcessor` of transformers joins them: `[CLS] a cat . a dog . [SEP]`.
    """
    (stop,) = tokenizer(".", add_special_tokens=False)["input_ids"]
    first, last = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)
    texts: list[list[int]] = []
    owners: list[list[int]] = []
    for prompt, ids in enumerate(prompts):
        if not texts or len(texts[-1]) + len(ids) + 2 > most:  # its full stop, and the end
            texts.append([first])
            owners.append([-1])
        texts[-1] += [*map(int, ids), int(stop)]
        owners[-1] += [*[prompt] * len(ids), -1]
    return [[*text, last] for text in texts], [[*owner, -1] for owner in owners]
