"""The files that transformers' `AutoTokenizer` reads as a RoBERTa tokenizer."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

FIRST_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # Ids 0 to 3.
MASK_TOKEN = "<mask>"  # The last id.
# What sentencepiece does to blanks, as patterns and what takes their place: none at the ends, and
# one in a row. U+2581 is its sign for a blank, and goes at the end if the text itself has it.
COLLAPSE_BLANKS = ((r"\A +", ""), (" {2,}", " "), ("[ \u2581]+\\z", ""))
_MASK = {
    "content": MASK_TOKEN,
    "lstrip": True,
    "normalized": False,
    "rstrip": False,
    "single_word": False,
}
_SPECIAL_TOKENS: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": _MASK,
}


def byte_level(vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE, without any special token; offsets leave out the blank of a word."""
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    return tokenizer


def write(folder: pathlib.Path, tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> None:
    """Writes `tokens`, ordered by id, and the merge rules with all settings into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate(tokens)}
    settings = {
        "tokenizer_class": "RobertaTokenizer",
        "add_prefix_space": False,
        "errors": "replace",
        "trim_offsets": True,
        **_SPECIAL_TOKENS,
        "mask_token": {"__type": "AddedToken", **_MASK},
    }
    complete = _with_special_tokens(vocab, merges)
    rules = "".join(f"{left} {right}\n" for left, right in merges)
    for name, text in (
        ("vocab.json", json.dumps(vocab, ensure_ascii=False)),
        ("merges.txt", "#version: 0.2\n" + rules),
        ("special_tokens_map.json", json.dumps(_SPECIAL_TOKENS, indent=2)),
        ("tokenizer_config.json", json.dumps(settings, indent=2)),
        ("tokenizer.json", complete.to_str(pretty=True)),
    ):
        (folder / name).write_text(text, encoding="utf-8")


def json_settings() -> dict[str, str]:
    """Name → text of the files beside a tokenizer.json that is to be taken as it is.

    Under the name of a model's own class, transformers would build its tokenizer anew, with the
    normalization of the published models.
    """
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **_SPECIAL_TOKENS,
        "mask_token": {"__type": "AddedToken", **_MASK},
    }
    return {
        "special_tokens_map.json": json.dumps(_SPECIAL_TOKENS, indent=2),
        "tokenizer_config.json": json.dumps(settings, indent=2),
    }


def _with_special_tokens(
    vocab: dict[str, int], merges: Sequence[tuple[str, str]]
) -> tokenizers.Tokenizer:
    complete = byte_level(vocab, merges)
    complete.post_processor = processors.RobertaProcessing(
        ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), trim_offsets=True, add_prefix_space=False
    )
    complete.decoder = decoders.ByteLevel()
    complete.add_special_tokens(
        [tokenizers.AddedToken(token, normalized=False) for token in FIRST_SPECIAL_TOKENS]
        + [tokenizers.AddedToken(MASK_TOKEN, lstrip=True, normalized=False)]
    )
    return complete
