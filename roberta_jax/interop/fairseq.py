"""A RoBERTa of fairseq in: `model.pt`, `dict.txt`, and GPT-2's `vocab.bpe` and `encoder.json`."""

import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from roberta_jax.config import EncoderConfig
from roberta_jax.data.byte_bpe import BYTE_OF_CHARACTER, ByteBpeTokenizer
from roberta_jax.data.transformers_layout import FIRST_SPECIAL_TOKENS, MASK_TOKEN
from roberta_jax.errors import UserError
from roberta_jax.interop.huggingface import ForeignModel, check_tokenizer
from roberta_jax.interop.torch_file import read_torch_file
from roberta_jax.interop.weights import read_weights

MODEL_NAME = "model.pt"
DICTIONARY_NAME = "dict.txt"
# fairseq's own name of a file, and what transformers calls the same.
_MERGES_NAMES = ("vocab.bpe", "merges.txt")
_BPE_NAMES = ("encoder.json", "vocab.json")
# fairseq's LayerNorm is torch's.
LAYER_NORM_EPSILON = 1e-5

# fairseq's module ↔ transformers', in whose names `weights` has its table.
_LAYER_MODULES = (
    ("self_attn.q_proj", "attention.self.query"),
    ("self_attn.k_proj", "attention.self.key"),
    ("self_attn.v_proj", "attention.self.value"),
    ("self_attn.out_proj", "attention.output.dense"),
    ("self_attn_layer_norm", "attention.output.LayerNorm"),
    ("fc1", "intermediate.dense"),
    ("fc2", "output.dense"),
    ("final_layer_norm", "output.LayerNorm"),
)
_MODULES = (
    ("sentence_encoder.embed_tokens", "roberta.embeddings.word_embeddings"),
    ("sentence_encoder.embed_positions", "roberta.embeddings.position_embeddings"),
    ("sentence_encoder.emb_layer_norm", "roberta.embeddings.LayerNorm"),
    ("sentence_encoder.layernorm_embedding", "roberta.embeddings.LayerNorm"),
    ("lm_head.dense", "lm_head.dense"),
    ("lm_head.layer_norm", "lm_head.layer_norm"),
)
# Not weights: a buffer for the type, a version number.
_NO_WEIGHTS = re.compile(r"_float_tensor$|(^|\.)version$")


def is_fairseq_folder(folder: pathlib.Path) -> bool:
    """Whether there is a model of fairseq."""
    return (folder / MODEL_NAME).exists() and (folder / DICTIONARY_NAME).exists()


def read_fairseq(
    folder: pathlib.Path, *, put: Callable[[str, np.ndarray], Any] = lambda path, array: array
) -> ForeignModel:
    """Reads a masked language model; nothing in `model.pt` is executed.

    Args:
      folder: model.pt, dict.txt and the BPE files.
      put: places a weight, given its path, as soon as it is read.

    Raises:
      UserError: the folder is incomplete or damaged, or its model is not RoBERTa.
    """
    path = folder / MODEL_NAME
    checkpoint = read_torch_file(path)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("model"), Mapping):
        raise UserError(f"{path} is no checkpoint of fairseq: it has no `model`.")
    tokenizer = _tokenizer(folder)
    tensors = _renamed(checkpoint["model"], path)
    config = _config(_settings(checkpoint), tensors, path)
    check_tokenizer(config, tokenizer, str(folder))
    if tokenizer.vocab_size != config.vocab_size:  # The mask comes last: its id would be wrong.
        raise UserError(
            f"{folder / DICTIONARY_NAME} gives {tokenizer.vocab_size:,} entries with the special "
            f"ones, and the model in {path} has {config.vocab_size:,}. They do not belong "
            f"together, or {DICTIONARY_NAME} is cut off."
        )
    readers = {name: (lambda array=array: array) for name, array in tensors.items()}
    place = f"{path} (by their names in transformers)"
    params, left_out = read_weights(readers, config, "roberta", place, put=put)
    return ForeignModel(
        family="roberta", config=config, params=params, tokenizer=tokenizer, left_out=left_out
    )


def _settings(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the run was told: `args` up to fairseq 0.10, `cfg.model` since."""
    settings = checkpoint.get("args")
    if settings is None:
        whole = checkpoint.get("cfg")
        settings = whole.get("model") if isinstance(whole, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _config(
    settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: pathlib.Path
) -> EncoderConfig:
    tokens, positions, layers, mlp_size = _sizes(tensors, path)
    heads = settings.get("encoder_attention_heads")
    if type(heads) is not int:
        heads = {"roberta_base": 12, "roberta_large": 16}.get(str(settings.get("arch")))
    if heads is None:
        raise UserError(
            f"{path} does not say how many attention heads its model has "
            "(args.encoder_attention_heads)."
        )
    for name, supported in (("activation_fn", "gelu"), ("encoder_normalize_before", False)):
        if settings.get(name, supported) != supported:
            raise UserError(
                f"The model in {path} has {name}={settings[name]!r}; supported is {supported!r}."
            )
    config = EncoderConfig(
        vocab_size=tokens[0],
        num_layers=layers,
        hidden_size=tokens[1],
        num_heads=heads,
        mlp_size=mlp_size,
        max_positions=positions - EncoderConfig().position_offset,
        embedding_dropout_rate=_rate(settings, "dropout"),
        dropout_rate=_rate(settings, "dropout"),
        attention_dropout_rate=_rate(settings, "attention_dropout"),
        activation_dropout_rate=_rate(settings, "activation_dropout", 0.0),
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        compute_dtype="float32",
    )
    config.validate()
    return config


def _rate(settings: Mapping[str, Any], name: str, default: float = 0.1) -> float:
    """A dropout rate; the defaults are fairseq's own, and BERT's."""
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) else default


def _sizes(
    tensors: Mapping[str, np.ndarray], path: pathlib.Path
) -> tuple[tuple[int, ...], int, int, int]:
    first = "roberta.encoder.layer.0.intermediate.dense.weight"
    names = ("word_embeddings", "position_embeddings")
    tables = [tensors.get(f"roberta.embeddings.{name}.weight") for name in names]
    if any(table is None or table.ndim != 2 for table in tables) or first not in tensors:
        raise UserError(
            f"The model in {path} is not a RoBERTa of fairseq: it has no "
            "sentence_encoder.embed_tokens, embed_positions and layers. Other models are not "
            "supported."
        )
    token_table, position_table = tables
    assert token_table is not None and position_table is not None
    layers = {
        int(match[1])
        for name in tensors
        if (match := re.match(r"roberta\.encoder\.layer\.(\d+)\.", name))
    }
    return token_table.shape, position_table.shape[0], len(layers), tensors[first].shape[0]


def _renamed(model: Mapping[str, Any], path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors under transformers' names; those that have none keep theirs."""
    tensors: dict[str, np.ndarray] = {}
    for name, array in model.items():
        if _NO_WEIGHTS.search(str(name)):
            continue
        if not isinstance(array, np.ndarray):
            raise UserError(f"{name!r} in the model of {path} is no tensor. Copy it again.")
        short = re.sub(r"^(decoder|encoder)\.", "", str(name))
        for theirs, piece in _split(short, array):
            if _name(theirs) in tensors:
                raise UserError(f"{path} holds {name} twice, under an old and under a new name.")
            tensors[_name(theirs)] = piece
    return tensors


def _split(name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Query, key and value were one tensor until fairseq 0.9."""
    match = re.fullmatch(r"(.*\.self_attn\.)in_proj_(weight|bias)", name)
    if not match or not array.ndim or array.shape[0] % 3:
        return [(name, array)]
    thirds = np.split(array, 3)
    return [
        (f"{match[1]}{part}_proj.{match[2]}", third)
        for part, third in zip("qkv", thirds, strict=True)
    ]


def _name(name: str) -> str:
    if name == "lm_head.weight":
        return "lm_head.decoder.weight"
    if name == "lm_head.bias":
        return name
    module, _, leaf = name.rpartition(".")
    if match := re.fullmatch(r"sentence_encoder\.layers\.(\d+)\.(.*)", module):
        for ours, theirs in _LAYER_MODULES:
            if ours == match[2]:
                return f"roberta.encoder.layer.{match[1]}.{theirs}.{leaf}"
    for ours, theirs in _MODULES:
        if ours == module:
            return f"{theirs}.{leaf}"
    return name


def _tokenizer(folder: pathlib.Path) -> ByteBpeTokenizer:
    """The vocabulary: dict.txt gives the ids, by GPT-2's numbers; encoder.json spells those."""
    merges_path, bpe_path = (_one_of(folder, names) for names in (_MERGES_NAMES, _BPE_NAMES))
    try:
        spelled = {str(i): token for token, i in json.loads(_text(bpe_path)).items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{bpe_path} is damaged ({error}). Copy it again.") from error
    tokens = list(FIRST_SPECIAL_TOKENS)
    for number, line in enumerate(_text(folder / DICTIONARY_NAME).splitlines(), start=1):
        symbol, _, count = line.rpartition(" ")
        if not symbol or not count.isdecimal():
            raise UserError(
                f"{folder / DICTIONARY_NAME}:{number} is {line!r}; a line is a symbol and a count."
            )
        if symbol not in spelled and not symbol.startswith("madeupword"):
            raise UserError(
                f"{folder / DICTIONARY_NAME}:{number} names {symbol!r}, which {bpe_path} does not "
                "spell. They do not belong together."
            )
        tokens.append(spelled.get(symbol, symbol))
    tokens.append(MASK_TOKEN)
    rules = _merges(merges_path)
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise UserError(f"{folder / DICTIONARY_NAME} has {twice!r} twice. Copy it again.")
    # fairseq makes `<unk>` of a token that its dictionary lacks; byte-level BPE has no such thing.
    needed = [*BYTE_OF_CHARACTER, *(left + right for left, right in rules)]
    lacking = [token for token in needed if token not in vocab]
    if lacking:
        raise UserError(
            f"{folder / DICTIONARY_NAME} lacks {len(lacking):,} of the {len(needed):,} tokens of "
            f"{merges_path}, the first being {lacking[0]!r}. Only whole dictionaries are "
            "supported, such as the one that fairseq publishes with GPT-2's BPE files."
        )
    return ByteBpeTokenizer(vocab, rules)


def _merges(path: pathlib.Path) -> list[tuple[str, str]]:
    rules = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        parts = line.rstrip("\r").split(" ")
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        if len(parts) != 2:
            raise UserError(
                f"{path}:{number} is {line!r}; a merge rule is two tokens with a blank between."
            )
        rules.append((parts[0], parts[1]))
    return rules


def _one_of(folder: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(
        f"{folder} has no {' or '.join(names)}: GPT-2's BPE files, with which fairseq encodes "
        "text. Copy them beside model.pt."
    )


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
