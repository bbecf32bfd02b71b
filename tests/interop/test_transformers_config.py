"""config.json in and out."""

import dataclasses
import json

import pytest

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.task_model import TaskHead
from roberta_jax.errors import UserError
from roberta_jax.interop.transformers_config import config_json, encoder_config, read_config_json
from tests.interop import foreign

# What `roberta-base` and `bert-base-uncased` have in their files.
ROBERTA_BASE = {
    "architectures": ["RobertaForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "roberta",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "vocab_size": 50265,
}
BERT_BASE = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}


def read(folder, values):
    foreign.write_config(folder, values)
    return encoder_config(read_config_json(folder), folder)


def written(config, family, **changes):
    options = {"dtype": "float32", "bos_id": 0, "eos_id": 2, **changes}
    return json.loads(json.dumps(config_json(config, family, **options)))


def test_roberta_base(tmp_path):
    config = read(tmp_path, ROBERTA_BASE)
    # The defaults are RoBERTa base; its one token type is dropped when its table proves to be 0.
    wanted = EncoderConfig(vocab_size=50265, num_token_types=1, compute_dtype="float32")
    assert config == wanted
    for found in (config, dataclasses.replace(config, num_token_types=0)):
        assert ROBERTA_BASE.items() <= written(found, "roberta").items()


def test_bert_base(tmp_path):
    config = read(tmp_path, BERT_BASE)
    assert (config.position_offset, config.pad_id, config.num_token_types) == (0, 0, 2)
    assert (config.max_positions, config.layer_norm_epsilon) == (512, 1e-12)
    kept = {name: value for name, value in BERT_BASE.items() if name not in _OF_OTHER_VERSIONS}
    found = written(config, "bert", bos_id=101, eos_id=102)
    assert kept.items() <= found.items()
    assert found["bos_token_id"] is found["eos_token_id"] is None


_OF_OTHER_VERSIONS = ("gradient_checkpointing", "position_embedding_type", "transformers_version")


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_every_value_survives(tmp_path, family):
    config = EncoderConfig(
        vocab_size=1234,
        num_layers=7,
        hidden_size=48,
        num_heads=3,
        mlp_size=100,
        max_positions=77,
        position_offset=0 if family == "bert" else 5,
        pad_id=4,
        num_token_types=3,
        next_sentence_head=family == "bert",
        embedding_dropout_rate=0.25,
        dropout_rate=0.25,
        attention_dropout_rate=0.125,
        layer_norm_epsilon=3e-7,
        initializer_range=0.5,
        compute_dtype="float32",
    )
    values = written(config, family, dtype="bfloat16")
    assert values["model_type"] == family and values["dtype"] == "bfloat16"
    assert values["max_position_embeddings"] == (77 if family == "bert" else 82)
    assert read(tmp_path, values) == config


def test_where_the_file_says_nothing_the_defaults_of_transformers_hold(tmp_path):
    config = read(tmp_path, {"model_type": "roberta", "vocab_size": 99})
    assert config.max_positions == 510 and config.num_token_types == 2
    assert (config.pad_id, config.position_offset, config.layer_norm_epsilon) == (1, 2, 1e-12)
    config = read(tmp_path, {"model_type": "bert", "vocab_size": 99})
    assert (config.pad_id, config.position_offset, config.max_positions) == (0, 0, 512)


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_null_is_as_good_as_nothing(tmp_path, family):
    plain = {"model_type": family, "vocab_size": 99}
    names = {
        *(*ROBERTA_BASE, *BERT_BASE, "is_decoder", "add_cross_attention", "tie_word_embeddings"),
        *("dtype", "classifier_dropout", "pruned_heads"),
    }
    nulls = dict.fromkeys(names - plain.keys())
    assert read(tmp_path, {**plain, **nulls}) == read(tmp_path, plain)


def test_padding_that_is_not_at_1_moves_the_first_position(tmp_path):
    config = read(tmp_path, {**ROBERTA_BASE, "pad_token_id": 3})
    assert (config.pad_id, config.position_offset, config.max_positions) == (3, 4, 510)


# ---- The next-sentence head ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architectures", "has"),
    [
        (["BertForPreTraining"], True),
        (["BertForMaskedLM"], False),
        (["BertForMaskedLM", "BertForPreTraining"], True),
        ("BertForPreTraining", False),  # A list is what transformers writes.
        (3, False),
        (None, False),
    ],
)
def test_bert_for_pretraining_has_a_next_sentence_head(tmp_path, architectures, has):
    config = read(tmp_path, {**BERT_BASE, "architectures": architectures})
    assert config.next_sentence_head == has


def test_only_bert_is_written_with_a_next_sentence_head(tmp_path):
    config = EncoderConfig(vocab_size=99, position_offset=0, next_sentence_head=True)
    assert written(config, "bert")["architectures"] == ["BertForPreTraining"]
    assert written(config, "roberta")["architectures"] == ["RobertaForMaskedLM"]
    head = TaskHead(task="span", num_outputs=2)
    assert written(config, "bert", head=head)["architectures"] == ["BertForQuestionAnswering"]
    values = {**ROBERTA_BASE, "architectures": ["BertForPreTraining"]}
    assert not read(tmp_path, values).next_sentence_head


# ---- Dropout ------------------------------------------------------------------------------------


def test_one_rate_of_transformers_is_that_of_the_embedding_and_of_the_sublayers(tmp_path):
    values = {**BERT_BASE, "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
    config = read(tmp_path, values)
    assert (config.embedding_dropout_rate, config.dropout_rate) == (0.3, 0.3)
    assert (config.attention_dropout_rate, config.activation_dropout_rate) == (0.2, 0.0)
    config.embedding_dropout_rate, config.activation_dropout_rate = 0.5, 0.4
    found = written(config, "bert")
    assert found["hidden_dropout_prob"] == 0.3 and found["attention_probs_dropout_prob"] == 0.2


# ---- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["camembert", "distilbert", "gpt2", "ROBERTA", 3, ["roberta"]])
def test_other_architectures_are_refused_and_those_supported_are_named(tmp_path, kind):
    with pytest.raises(UserError) as error:
        read(tmp_path, {**ROBERTA_BASE, "model_type": kind})
    assert f"is of the type {kind!r}, which is not supported" in str(error.value)
    assert "Supported are roberta, xlm-roberta, bert." in str(error.value)


@pytest.mark.parametrize("kind", [None, "absent"])
def test_a_file_without_a_type_is_refused(tmp_path, kind):
    values = {**ROBERTA_BASE, "model_type": None}
    if kind == "absent":
        del values["model_type"]
    with pytest.raises(UserError, match="of which type the model is.* write its name there as"):
        read(tmp_path, values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_act", "gelu_new"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("hidden_act", ["gelu"]),
    ],
)
def test_other_computations_are_refused(tmp_path, name, value):
    with pytest.raises(UserError) as error:
        read(tmp_path, {**ROBERTA_BASE, name: value})
    assert f"has {name}={value!r}; supported is " in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocab_size", None, "vocab_size is missing; it must be a whole number"),
        ("vocab_size", "50265", "vocab_size is '50265'; it must be a whole number"),
        ("hidden_size", 768.0, "hidden_size is 768.0; it must be"),
        ("num_hidden_layers", True, "num_hidden_layers is True"),
        ("num_hidden_layers", 0, "encoder.num_layers is 0"),
        ("intermediate_size", [3072], "intermediate_size is [3072]"),
        ("pad_token_id", "1", "pad_token_id is '1'"),
        ("pad_token_id", -1, "encoder.pad_id is -1"),
        ("type_vocab_size", {}, "type_vocab_size is {}"),
        ("num_attention_heads", 7, "encoder.num_heads is 7; it must be a divisor of"),
        ("max_position_embeddings", 2, "encoder.max_positions is 0"),
        ("layer_norm_eps", "small", "could not convert string to float: 'small'"),
        ("layer_norm_eps", -1, "encoder.layer_norm_epsilon is -1.0"),
        ("hidden_dropout_prob", 1.0, "encoder.embedding_dropout_rate is 1.0"),
        ("attention_probs_dropout_prob", [0.1], "float() argument must be"),
        ("initializer_range", {}, "float() argument must be"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path, name, value, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, {**ROBERTA_BASE, name: value})
    assert str(error.value).startswith(f"{tmp_path / 'config.json'} cannot be used: ")
    assert message in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '"roberta"', "3", "null", "\ud800"])
def test_a_damaged_file_is_said(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=r"config\.json is damaged .*Copy it again|is damaged: it"):
        read_config_json(tmp_path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="is no Hugging Face model: .*No such file"):
        read_config_json(tmp_path)


# ---- Heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "num_outputs", "name"),
    [
        ("classification", 3, "RobertaForSequenceClassification"),
        ("tokens", 3, "RobertaForTokenClassification"),
        ("choice", 1, "RobertaForMultipleChoice"),
        ("span", 2, "RobertaForQuestionAnswering"),
    ],
)
def test_heads(task, num_outputs, name):
    head = TaskHead(task=task, num_outputs=num_outputs, dropout_rate=0.3)
    config = EncoderConfig(vocab_size=99)
    values = written(config, "roberta", head=head)
    assert values["architectures"] == [name] and values["classifier_dropout"] == 0.3
    if num_outputs == 3:
        assert values["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
        labels = ("no", "perhaps", "yes")
        values = written(config, "roberta", head=head, labels=labels)
        assert values["id2label"] == {"0": "no", "1": "perhaps", "2": "yes"}
        assert values["label2id"] == {"no": 0, "perhaps": 1, "yes": 2}
    else:
        assert not {"id2label", "label2id"} & values.keys()
