"""The files that transformers' `AutoTokenizer` reads as a RoBERTa tokenizer."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

FIRST_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # Ids 0 to 3.
MASK_TOKEN = "<mask>"  # The last id.


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
    mask_token = {
        "content": MASK_TOKEN,
        "lstrip": True,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
    }
    special_tokens: dict[str, Any] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": mask_token,
    }
    settings = {
        "tokenizer_class": "RobertaTokenizer",
        "add_prefix_space": False,
        "errors": "replace",
        "trim_offsets": True,
        **special_tokens,
        "mask_token": {"__type": "AddedToken", **mask_token},
    }
    complete = _with_special_tokens(vocab, merges)
    rules = "".join(f"{left} {right}\n" for left, right in merges)
    for name, text in (
        ("vocab.json", json.dumps(vocab, ensure_ascii=False)),
        ("merges.txt", "#version: 0.2\n" + rules),
        ("special_tokens_map.json", json.dumps(special_tokens, indent=2)),
        ("tokenizer_config.json", json.dumps(settings, indent=2)),
        ("tokenizer.json", complete.to_str(pretty=True)),
    ):
        (folder / name).write_text(text, encoding="utf-8")


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
