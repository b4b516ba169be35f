"""Tiny tokenizers, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS: Final = (
    "a",
    "an",
    "photo",
    "of",
    "the",
    "cat",
    "dog",
    "bird",
    "red",
    "small",
    "car",
    "tree",
    "and",
    "on",
    "table",
    "person",
    "cup",
    "chair",
    ",",
    "with",
)
_CLIP: Final = ("<pad>", "<unk>", *WORDS, "<start>", "<end>")
END: Final = len(_CLIP) - 1
"""Id of the end of a text."""
BERT_SIZE: Final = 1100
"""Words of a vocabulary with the ids of BERT's markers and full stop, which Grounding DINO has in its code."""
_BERT: Final = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}


def save_clip_tokenizer(folder: Path, *, padding: str = "<end>") -> Path:
    """Save a tokenizer with a start and an end, whose id is the highest, as that of CLIP."""
    tokenizer = _make_tokenizer({word: number for number, word in enumerate(_CLIP)}, "<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(name, _CLIP.index(name)) for name in ("<start>", "<end>")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        pad_token=padding,
        model_input_names=["input_ids"] if padding == "<pad>" else ["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def save_bert_tokenizer(folder: Path) -> Path:
    """Save a tokenizer with BERT's markers under BERT's ids."""
    words = {f"[unused{number}]": number for number in range(BERT_SIZE) if number not in _BERT.values()}
    free = iter(list(words)[1:])
    for word in WORDS:
        words[word] = words.pop(next(free))
    tokenizer = _make_tokenizer(words | _BERT, "[UNK]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, _BERT[name]) for name in ("[CLS]", "[SEP]")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return folder


def _make_tokenizer(words: dict[str, int], unknown: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    return tokenizer
