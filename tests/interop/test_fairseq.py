"""A checkpoint of fairseq in, written by hand with the names of two ages."""

import argparse
import json

import jax
import numpy as np
import pytest

from roberta_jax.errors import UserError
from roberta_jax.interop.fairseq import is_fairseq_folder, read_fairseq
from roberta_jax.interop.huggingface import read_huggingface
from tests.interop import foreign
from tests.interop.torch_writer import Named, tensor, write

VALUES = foreign.config_values("roberta", vocab_size=foreign.bpe_with_filler().vocab_size)
ARGS = {
    "arch": "roberta_base",
    "encoder_attention_heads": 2,
    "dropout": 0.2,
    "attention_dropout": 0.05,
    "activation_fn": "gelu",
    "max_positions": foreign.POSITIONS,
}
_LAYER = (
    ("attention.output.dense", "self_attn.out_proj"),
    ("attention.output.LayerNorm", "self_attn_layer_norm"),
    ("intermediate.dense", "fc1"),
    ("output.dense", "fc2"),
    ("output.LayerNorm", "final_layer_norm"),
)


def fairseq_names(tensors, *, new):
    """The same tensors as fairseq has them: 2019's names, or those since fairseq 0.9 and 0.10."""
    prefix = ("encoder" if new else "decoder") + ".sentence_encoder"
    norm = "layernorm_embedding" if new else "emb_layer_norm"
    model = {f"{prefix}.version": np.array([2.0], np.float32)}
    for theirs, ours in (
        ("word_embeddings", "embed_tokens"),
        ("position_embeddings", "embed_positions"),
    ):
        model[f"{prefix}.{ours}.weight"] = tensors[f"roberta.embeddings.{theirs}.weight"]
    model[f"{prefix}.embed_positions._float_tensor"] = np.zeros(1, np.float32)
    for leaf in ("weight", "bias"):
        model[f"{prefix}.{norm}.{leaf}"] = tensors[f"roberta.embeddings.LayerNorm.{leaf}"]
        for layer in range(VALUES["num_hidden_layers"]):
            place, attention = f"{prefix}.layers.{layer}", f"roberta.encoder.layer.{layer}"
            parts = {
                name[0]: tensors[f"{attention}.attention.self.{name}.{leaf}"]
                for name in ("query", "key", "value")
            }
            if new:
                for letter, part in parts.items():
                    model[f"{place}.self_attn.{letter}_proj.{leaf}"] = part
            else:
                model[f"{place}.self_attn.in_proj_{leaf}"] = np.concatenate(list(parts.values()))
            for theirs, ours in _LAYER:
                model[f"{place}.{ours}.{leaf}"] = tensors[f"{attention}.{theirs}.{leaf}"]
        for part in ("dense", "layer_norm"):
            model[f"{prefix.split('.')[0]}.lm_head.{part}.{leaf}"] = tensors[
                f"lm_head.{part}.{leaf}"
            ]
    head = f"{prefix.split('.')[0]}.lm_head"
    model[f"{head}.weight"] = tensors["roberta.embeddings.word_embeddings.weight"]
    model[f"{head}.bias"] = tensors["lm_head.bias"]
    return model


def write_vocabulary(folder):
    """vocab.bpe, encoder.json with numbers of its own, dict.txt in the order of our ids."""
    tokenizer = foreign.bpe_with_filler()
    symbols = [token for token in tokenizer._tokens[4:-1] if not token.startswith("madeupword")]
    numbers = {token: i for i, token in enumerate(sorted(symbols, reverse=True))}
    assert [numbers[token] for token in symbols] != sorted(numbers.values())
    (folder / "encoder.json").write_text(json.dumps({**numbers, "<|endoftext|>": len(numbers)}))
    rules = "".join(f"{left} {right}\n" for left, right in tokenizer._merges)
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + rules, encoding="utf-8")
    lines = [f"{numbers.get(token, token)} {1000 - i}" for i, token in enumerate(tokenizer._tokens)]
    (folder / "dict.txt").write_text("\n".join(lines[4:-1]) + "\n")


def write_checkpoint(folder, model, *, form="zip", settings=None, **others):
    """model.pt with the tensors `model` and what a run leaves beside them."""
    state = {
        name: tensor(value, {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage"}[
            value.dtype.str[1:]
        ], key=str(number))
        if isinstance(value, np.ndarray)
        else value
        for number, (name, value) in enumerate(model.items())
    }  # fmt: skip
    value = {
        "args": argparse.Namespace(**(ARGS if settings is None else settings)),
        "model": state,
        "optimizer_history": [{"criterion_name": "MaskedLmLoss", "num_updates": 500_000}],
        "extra_state": {"train_iterator": {"epoch": 3}, "best_loss": Named("numpy", "inf")},
    }
    write(folder / "model.pt", {**value, **others}, form)


@pytest.fixture(scope="module")
def tensors():
    return foreign.make_tensors(VALUES)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, tensors):
    """The same model as transformers would have it, read."""
    folder = tmp_path_factory.mktemp("wanted")
    foreign.write_folder(folder, tensors=tensors, vocab_size=VALUES["vocab_size"])
    foreign.bpe_with_filler().save(folder)
    return read_huggingface(folder)


@pytest.fixture
def folder(tmp_path, tensors):
    write_vocabulary(tmp_path)
    write_checkpoint(tmp_path, fairseq_names(tensors, new=False))
    return tmp_path


def assert_refused(folder, *messages):
    with pytest.raises(UserError) as error:
        read_fairseq(folder)
    for message in messages:
        assert message in str(error.value)
    assert "\n" not in str(error.value)


def assert_same_model(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
    assert found.tokenizer.fingerprint == wanted.tokenizer.fingerprint
    assert (found.family, found.left_out) == ("roberta", [])
    shape = "vocab_size", "num_layers", "hidden_size", "num_heads", "mlp_size", "max_positions"
    for name in (*shape, "position_offset", "pad_id", "num_token_types", "layer_norm_epsilon"):
        assert getattr(found.config, name) == getattr(wanted.config, name), name


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("new", [False, True], ids=["2019", "newer"])
def test_the_model_is_that_of_the_equivalent_hugging_face_folder(
    folder, tensors, wanted, new, form
):
    write_checkpoint(folder, fairseq_names(tensors, new=new), form=form)
    assert is_fairseq_folder(folder)
    found = read_fairseq(folder)
    assert_same_model(found, wanted)
    assert (found.config.dropout_rate, found.config.attention_dropout_rate) == (0.2, 0.05)
    assert found.config.embedding_dropout_rate == 0.2
    text = "The old river carried nobody, <mask>!"
    assert found.tokenizer.encode(text) == wanted.tokenizer.encode(text)
    assert found.tokenizer.mask_id == VALUES["vocab_size"] - 1


def test_special_ids_hold_the_filler_of_the_dictionary(folder):
    found = read_fairseq(folder).tokenizer
    assert found.special_ids == (0, 1, 2, 3, *range(found.vocab_size - 3, found.vocab_size))


def test_settings_of_newer_runs_are_in_cfg(folder, tensors, wanted):
    model = fairseq_names(tensors, new=True)
    write_checkpoint(folder, model, args=None, cfg={"model": ARGS, "task": {}})
    assert_same_model(read_fairseq(folder), wanted)
    # Before 0.12, it was pickled as an object.
    write_checkpoint(folder, model, args=None, cfg={"model": argparse.Namespace(**ARGS)})
    assert_same_model(read_fairseq(folder), wanted)
    unread = Named("omegaconf.dictconfig", "DictConfig", (), {"_content": 1})
    write_checkpoint(folder, model, args=None, cfg=unread)
    assert_refused(folder, "does not say how many attention heads its model has")


def test_half_precision(folder, tensors):
    model = fairseq_names(tensors, new=True)
    write_checkpoint(folder, {name: value.astype(np.float16) for name, value in model.items()})
    params = read_fairseq(folder).params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    wanted = tensors["lm_head.dense.weight"].astype(np.float16)
    np.testing.assert_array_equal(params["head"]["dense"]["kernel"].T, wanted)


def test_the_head_need_not_repeat_the_table(folder, tensors, wanted):
    model = fairseq_names(tensors, new=True)
    del model["encoder.lm_head.weight"]
    write_checkpoint(folder, model)
    assert_same_model(read_fairseq(folder), wanted)


def test_bpe_files_may_have_the_names_of_transformers(folder, wanted):
    (folder / "vocab.bpe").rename(folder / "merges.txt")
    (folder / "encoder.json").rename(folder / "vocab.json")
    assert_same_model(read_fairseq(folder), wanted)


def test_heads_follow_from_the_architecture_where_nothing_says_them(folder, tensors):
    model = fairseq_names(tensors, new=True)
    settings = {"arch": "roberta_large"}  # Of 16 heads, as many as this model is wide.
    write_checkpoint(folder, model, settings=settings)
    config = read_fairseq(folder).config
    assert config.num_heads == 16
    assert (config.dropout_rate, config.attention_dropout_rate) == (0.1, 0.1)
    write_checkpoint(folder, model, settings={"arch": "roberta"})
    assert_refused(folder, "does not say how many attention heads", "encoder_attention_heads")
    write_checkpoint(folder, model, settings={**ARGS, "dropout": None, "attention_dropout": "x"})
    assert read_fairseq(folder).config.dropout_rate == 0.1
    assert read_fairseq(folder).config.activation_dropout_rate == 0
    write_checkpoint(folder, model, settings={**ARGS, "activation_dropout": 0.15})
    assert read_fairseq(folder).config.activation_dropout_rate == 0.15


# ---- Models that are not supported ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("activation_fn", "relu"), ("activation_fn", None), ("encoder_normalize_before", True)],
)
def test_other_computations_are_refused(folder, tensors, name, value):
    model = fairseq_names(tensors, new=True)
    write_checkpoint(folder, model, settings={**ARGS, name: value})
    assert_refused(folder, f"model.pt has {name}={value!r}; supported is ")


@pytest.mark.parametrize("new", [False, True])
def test_a_model_with_another_head_is_refused_and_the_head_is_named(folder, tensors, new):
    model = fairseq_names(tensors, new=new)
    model["classification_heads.mnli.dense.weight"] = np.zeros((16, 16), np.float32)
    model["classification_heads.mnli.out_proj.weight"] = np.zeros((3, 16), np.float32)
    write_checkpoint(folder, model)
    assert_refused(folder, "2 unknown, classification_heads.mnli.dense.weight", "with no other")


def test_missing_and_mis_shaped_tensors_are_named(folder, tensors):
    model = fairseq_names(tensors, new=False)
    for name, message in (
        ("decoder.lm_head.dense.bias", "1 missing, lm_head.dense.bias"),
        ("decoder.lm_head.bias", "1 missing, lm_head.bias"),
        (
            "decoder.sentence_encoder.layers.1.fc2.weight",
            "1 missing, roberta.encoder.layer.1.output.dense.weight",
        ),
        (
            "decoder.sentence_encoder.layers.2.self_attn.in_proj_bias",
            "3 missing, roberta.encoder.layer.2.attention.self.key.bias",
        ),
        ("decoder.sentence_encoder.emb_layer_norm.weight", "roberta.embeddings.LayerNorm.weight"),
        ("decoder.sentence_encoder.embed_positions.weight", "it has no sentence_encoder.embed_tok"),
    ):
        others = {key: value for key, value in model.items() if key != name}
        write_checkpoint(folder, others)
        assert_refused(folder, str(folder / "model.pt"), message)
        if "embed" not in name:
            write_checkpoint(folder, {**model, name: model[name][:-1]})
            assert_refused(folder, "in_proj_bias" if "in_proj" in name else message.split()[-1])


def test_an_untied_head_is_refused(folder, tensors):
    model = fairseq_names(tensors, new=True)
    model["encoder.lm_head.weight"] = model["encoder.lm_head.weight"] + 1
    write_checkpoint(folder, model)
    assert_refused(folder, "lm_head.decoder.weight is not a copy of roberta.embeddings.word")


def test_a_tensor_under_two_names_is_refused(folder, tensors):
    model = fairseq_names(tensors, new=True)
    model["encoder.sentence_encoder.emb_layer_norm.bias"] = np.zeros(16, np.float32)
    write_checkpoint(folder, model)
    assert_refused(folder, "emb_layer_norm.bias twice, under an old and under a new name")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "is not a RoBERTa of fairseq"),
        ({"encoder.embed_tokens.weight": np.zeros((3, 2), np.float32)}, "is not a RoBERTa"),
        ({"encoder.sentence_encoder.embed_tokens.weight": "a"}, "is no tensor"),
        ({7: 7}, "7 in the model of"),
        ({"a.self_attn.in_proj_bias": np.array(1, np.float32)}, "is not a RoBERTa of fairseq"),
    ],
)
def test_other_models_are_refused(folder, model, message):
    write_checkpoint(folder, model)
    assert_refused(folder, message)


@pytest.mark.parametrize("value", [{"model": [1]}, [1, 2], {"state_dict": {}}, None, 3])
def test_other_files_of_torch_are_refused(folder, value):
    write(folder / "model.pt", value, "zip")
    assert_refused(folder, "model.pt is no checkpoint of fairseq: it has no `model`.")


def test_a_truncated_file_is_refused(folder):
    path = folder / "model.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(folder, f"{path} cannot be read as a PyTorch checkpoint: it is truncated")


def test_nothing_in_the_file_is_run(folder, tmp_path, tensors):
    made = tmp_path / "made"
    attack = Named("os", "system", (f"touch {made}",))
    write_checkpoint(folder, fairseq_names(tensors, new=True), extra_state=attack)
    read_fairseq(folder)
    assert not made.exists()


# ---- Vocabularies that do not fit ---------------------------------------------------------------


def test_a_dictionary_that_is_cut_off_is_refused(folder):
    """Its mask would have the id of another token."""
    path = folder / "dict.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    entries = VALUES["vocab_size"]
    assert_refused(folder, f"gives {entries - 1} entries", f"has {entries}", "is cut off")
    path.write_text("\n".join([*lines, "madeupword0002 0"]) + "\n")
    assert_refused(folder, f"has {entries + 1} entries, and the model only {entries}")


def test_a_dictionary_without_a_token_that_the_rules_make_is_refused(folder):
    path = folder / "dict.txt"
    lines = path.read_text().splitlines()
    for number, count in ((-4, 1), (10, 1), (0, 3)):  # A merge, a byte, several bytes.
        kept = lines[:number] + lines[number:][count:]
        filler = [f"madeupword{9000 + i} 0" for i in range(count)]
        path.write_text("\n".join(kept + filler) + "\n")
        assert_refused(folder, f"dict.txt lacks {count} of the ", "Only whole dictionaries")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("12", "is '12'; a line is a symbol and a count"),
        ("", "is ''; a line is a symbol and a count"),
        ("12 many", "is '12 many'; a line is"),
        ("99999 5", "names '99999', which"),
        ("the 5", "names 'the', which"),
        ("madeupword0000 0", "has 'madeupword0000' twice"),
    ],
)
def test_a_damaged_dictionary_is_refused(folder, line, message):
    with (folder / "dict.txt").open("a") as file:
        file.write(line + "\n")
    assert_refused(folder, f"{folder / 'dict.txt'}", message)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", '{"a": [1]}'])
def test_a_damaged_encoder_json_is_refused(folder, content):
    (folder / "encoder.json").write_text(content)
    assert_refused(folder, str(folder / "encoder.json"))


@pytest.mark.parametrize("rule", ["t", "t h e", "a  b"])
def test_a_damaged_list_of_rules_is_refused(folder, rule):
    with (folder / "vocab.bpe").open("a") as file:
        file.write(rule + "\n")
    assert_refused(folder, f"{folder / 'vocab.bpe'}:", f"is {rule!r}; a merge rule is two tokens")


def test_rules_of_another_vocabulary_are_refused(folder):
    with (folder / "vocab.bpe").open("a") as file:
        file.write("q x\n")
    assert_refused(folder, "dict.txt lacks 1 of the ", "the first being 'qx'")


@pytest.mark.parametrize("name", ["vocab.bpe", "encoder.json"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    assert_refused(folder, f"{folder} has no {name} or ", "Copy them beside model.pt")


@pytest.mark.parametrize("name", ["vocab.bpe", "encoder.json", "dict.txt"])
def test_files_that_are_no_text_are_named(folder, name):
    (folder / name).write_bytes(b"\xff\xfe")
    assert_refused(folder, f"{folder / name} cannot be read")


def test_which_folders_are_models_of_fairseq(folder):
    assert is_fairseq_folder(folder)
    (folder / "dict.txt").unlink()
    assert not is_fairseq_folder(folder)
