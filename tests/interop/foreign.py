"""Small models of other systems, written by hand: neither torch nor transformers is needed."""

import functools
import json

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from roberta_jax.data.byte_bpe import ByteBpeTokenizer, train_byte_bpe
from tests.train.runs import WORDS, make_text

FAMILIES = ("roberta", "xlm-roberta", "bert")
POSITIONS = 24  # Of the longest text.
# Changes to `config_values("bert")` that give the class with both heads.
PRETRAINING = {"architectures": ["BertForPreTraining"]}


# ---- Tokenizers ---------------------------------------------------------------------------------


@functools.cache
def byte_bpe(vocab_size=300):
    return train_byte_bpe([make_text()], vocab_size)


@functools.cache
def unigram():
    """XLM-RoBERTa's kind of vocabulary: pieces of SentencePiece, the mask at the end."""
    letters = sorted(set("".join(WORDS).lower()) | {"▁", ".", ","})
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -3.0 - 0.01 * i) for i, word in enumerate(WORDS)]
    pieces += [(letter, -9.0) for letter in letters]
    tokenizer = tokenizers.Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    ids = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ids
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    return tokenizer.to_str()


@functools.cache
def word_pieces():
    """BERT's kind of vocabulary."""
    letters = sorted(set("".join(WORDS).lower()))
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ","]
    tokens += sorted({word.lower() for word in WORDS} | set(letters))
    tokens += [f"##{letter}" for letter in letters]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer.to_str()


def _special_tokens(begin, end, pad, unknown, mask):
    return {
        "cls_token": begin,
        "sep_token": end,
        "pad_token": pad,
        "unk_token": unknown,
        "mask_token": mask,
    }


def write_tokenizer(folder, family):
    folder.mkdir(parents=True, exist_ok=True)
    if family == "roberta":
        byte_bpe().save(folder)
        return
    if family == "bert":
        settings = _special_tokens("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
        settings |= {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    else:
        settings = _special_tokens("<s>", "</s>", "<pad>", "<unk>", "<mask>")
        settings |= {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>"}
        settings |= {"eos_token": "</s>"}
    text = word_pieces() if family == "bert" else unigram()
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def num_tokens(family):
    if family == "roberta":
        return byte_bpe().vocab_size
    text = word_pieces() if family == "bert" else unigram()
    return tokenizers.Tokenizer.from_str(text).get_vocab_size()


# ---- Models of Hugging Face ---------------------------------------------------------------------


def config_values(family, **changes):
    """The content of config.json of a tiny model."""
    is_bert = family == "bert"
    values = {
        "architectures": [
            {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "bert": "Bert"}[family]
            + "ForMaskedLM"
        ],
        "model_type": family,
        "vocab_size": num_tokens(family),
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": POSITIONS if is_bert else POSITIONS + 2,
        "type_vocab_size": 2 if is_bert else 1,
        "layer_norm_eps": 1e-12 if is_bert else 1e-5,
        "pad_token_id": 0 if is_bert else 1,
        "hidden_act": "gelu",
    }
    return {**values, **changes}


def make_tensors(values, seed=0):
    """Every tensor of the model, at random, by transformers' names; spelled out, not computed."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    width, inner = values["hidden_size"], values["intermediate_size"]
    is_bert = values["model_type"] == "bert"
    base = "bert" if is_bert else "roberta"
    shapes = {
        f"{base}.embeddings.word_embeddings.weight": (values["vocab_size"], width),
        f"{base}.embeddings.position_embeddings.weight": (
            *(values["max_position_embeddings"], width),
        ),
        f"{base}.embeddings.token_type_embeddings.weight": (values["type_vocab_size"], width),
        f"{base}.embeddings.LayerNorm.weight": (width,),
        f"{base}.embeddings.LayerNorm.bias": (width,),
    }
    for layer in range(values["num_hidden_layers"]):
        place = f"{base}.encoder.layer.{layer}"
        for name, shape in (
            ("attention.self.query", (width, width)),
            ("attention.self.key", (width, width)),
            ("attention.self.value", (width, width)),
            ("attention.output.dense", (width, width)),
            ("attention.output.LayerNorm", (width,)),
            ("intermediate.dense", (inner, width)),
            ("output.dense", (width, inner)),
            ("output.LayerNorm", (width,)),
        ):
            shapes[f"{place}.{name}.weight"] = shape
            shapes[f"{place}.{name}.bias"] = shape[:1]
    head = "cls.predictions" if is_bert else "lm_head"
    dense = f"{head}.transform.dense" if is_bert else "lm_head.dense"
    norm = f"{head}.transform.LayerNorm" if is_bert else "lm_head.layer_norm"
    shapes |= {
        f"{head}.bias": (values["vocab_size"],),
        f"{dense}.weight": (width, width),
        f"{dense}.bias": (width,),
        f"{norm}.weight": (width,),
        f"{norm}.bias": (width,),
    }
    if values["architectures"] == ["BertForPreTraining"]:
        shapes |= {
            "bert.pooler.dense.weight": (width, width),
            "bert.pooler.dense.bias": (width,),
            "cls.seq_relationship.weight": (2, width),
            "cls.seq_relationship.bias": (2,),
        }
    tensors = {name: generator.normal(0, 0.3, shape) for name, shape in shapes.items()}
    if values["type_vocab_size"] == 1:  # As in every published RoBERTa.
        tensors[f"{base}.embeddings.token_type_embeddings.weight"][:] = 0
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def write_folder(folder, family="roberta", *, tensors=None, **changes):
    """A folder of transformers; `changes` are of its config.json. Returns its tensors."""
    values = config_values(family, **changes)
    tensors = make_tensors(values) if tensors is None else tensors
    write_tokenizer(folder, family)
    write_config(folder, values)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def write_config(folder, values):
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")


def write_shards(folder, tensors, num_shards=3):
    """The tensors in turn in several files, with their index, instead of the one file."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = [{} for _ in range(num_shards)]
    weight_map = {}
    for number, (name, tensor) in enumerate(tensors.items()):
        shard = number % num_shards
        shards[shard][name] = tensor
        weight_map[name] = f"model-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
    for number, shard in enumerate(shards, start=1):
        save_file(shard, folder / f"model-{number:05d}-of-{num_shards:05d}.safetensors")
    write_index(folder, weight_map)
    return weight_map


def write_index(folder, weight_map):
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


# ---- fairseq's vocabulary -----------------------------------------------------------------------


@functools.cache
def bpe_with_filler():
    """fairseq's vocabulary: filled up with entries that stand for nothing, before the mask."""
    plain = byte_bpe()
    tokens = [*plain._tokens[:-1], "madeupword0000", "madeupword0001", "<mask>"]
    return ByteBpeTokenizer({token: i for i, token in enumerate(tokens)}, plain._merges)
