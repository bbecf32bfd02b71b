"""Settings: what is allowed, how they are stored."""

import dataclasses
import json
import math

import pytest

from roberta_jax import config as c
from roberta_jax.errors import UserError


def changed(**changes):
    """The defaults with section__field=value."""
    config = c.PretrainConfig()
    for path, value in changes.items():
        section, _, field = path.rpartition("__")
        setattr(getattr(config, section) if section else config, field, value)
    return config


def refusal(**changes):
    with pytest.raises(UserError) as caught:
        changed(**changes).validate()
    text = str(caught.value)
    assert "\n" not in text and text.startswith("config.") and text.endswith(".")
    return text


def test_the_defaults_are_allowed_and_are_roberta_base():
    c.PretrainConfig().validate()
    encoder = c.PretrainConfig().encoder
    shape = (encoder.num_layers, encoder.hidden_size, encoder.num_heads, encoder.mlp_size)
    assert shape == (12, 768, 12, 3072)


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("seed", -1, "in [0, 2^31)"),
        ("seed", 2**31, "in [0, 2^31)"),
        ("data__sequence_length", 7, "at least 8 tokens"),
        ("data__num_read_threads", -1, "0 or more"),
        ("data__prefetch_batches", 0, "at least 1"),
        ("encoder__vocab_padding_multiple", 0, "at least 1"),
        ("encoder__num_layers", 0, "at least 1"),
        ("encoder__hidden_size", 0, "at least 1"),
        ("encoder__num_heads", 0, "at least 1"),
        ("encoder__num_heads", 7, "a divisor of encoder.hidden_size=768"),
        ("encoder__mlp_size", -5, "at least 1"),
        ("encoder__max_positions", 0, "at least 1"),
        ("encoder__vocab_size", -1, "a count, or 0 for the dataset's"),
        ("encoder__dropout_rate", 1.0, "in [0, 1)"),
        ("encoder__attention_dropout_rate", -0.1, "in [0, 1)"),
        ("encoder__layer_norm_epsilon", 0.0, "positive"),
        ("encoder__compute_dtype", "float16", "one of bfloat16, float32"),
        ("encoder__rematerialization", "some", "one of none, dots, full"),
        ("encoder__attention_implementation", "flash", "one of auto, xla, cudnn"),
        (
            "encoder__attention_implementation",
            "cudnn",
            "0 with encoder.attention_implementation=cudnn",
        ),
        ("encoder__initializer_range", 0.0, "positive"),
        ("data__num_read_processes", -1, "0 or more"),
        ("masking__kind", "once", "one of dynamic, static"),
        ("masking__num_static_masks", 0, "at least 1"),
        ("masking__rate", 0.0, "in (0, 1)"),
        ("masking__rate", 1.0, "in (0, 1)"),
        ("masking__mask_share", 0.95, "with a sum of at most 1"),
        ("masking__random_share", -0.1, "not negative"),
        ("optimizer__peak_learning_rate", 0.0, "positive"),
        ("optimizer__peak_learning_rate", math.nan, "positive"),
        ("optimizer__warmup_steps", -1, "0 or more"),
        ("optimizer__beta1", 1.0, "in [0, 1)"),
        ("optimizer__beta2", -0.1, "in [0, 1)"),
        ("optimizer__epsilon", 0.0, "positive"),
        ("optimizer__weight_decay", -0.01, "0 or more"),
        ("optimizer__decay_table", "all", "one of bert, fairseq"),
        ("optimizer__clip_global_norm", 0.0, "positive, or inf"),
        ("mesh__data", 0, "positive, with at most one -1"),
        ("mesh__tensor", -1, "positive, with at most one -1"),
        ("mesh__fsdp", -2, "positive, with at most one -1"),
        ("train__num_steps", 0, "at least 1"),
        ("train__batch_size", 0, "at least 1"),
        ("train__num_microbatches", 0, "at least 1"),
        ("train__num_microbatches", 3, "a divisor of train.batch_size=8192"),
        ("train__log_every_steps", 0, "at least 1"),
        ("train__evaluate_every_steps", -1, "0 or more"),
        ("train__evaluation_rows", 0, "at least 1"),
        ("checkpoint__save_every_steps", 0, "at least 1"),
        ("checkpoint__keep_last", 0, "at least 1"),
        ("checkpoint__keep_every_steps", -1, "0 or more"),
        ("checkpoint__keep_best", -1, "0 or more"),
        ("data__sequence_length", 1024, "at most encoder.max_positions=512"),
        ("optimizer__warmup_steps", 500_000, "less than train.num_steps=500000"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    text = refusal(**{path: value})
    assert path.replace("__", ".") in text and allowed in text


def test_the_edges_of_what_is_allowed_are_allowed():
    changed(
        seed=2**31 - 1,
        data__sequence_length=8,
        encoder__max_positions=8,
        encoder__dropout_rate=0.0,
        masking__mask_share=0.9,
        masking__random_share=0.1,
        optimizer__warmup_steps=0,
        optimizer__weight_decay=0.0,
        optimizer__clip_global_norm=math.inf,
        train__num_steps=1,
        train__num_microbatches=8192,
        train__evaluate_every_steps=0,
        checkpoint__keep_best=0,
        mesh__tensor=8,
    ).validate()


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("seed", 1.0, "int"),
        ("seed", True, "int"),
        ("train__num_steps", "many", "int"),
        ("optimizer__beta1", "0.9", "float"),
        ("optimizer__beta1", True, "float"),
        ("data__path", None, "str"),
        ("masking__mask_special_tokens", 1, "bool"),
        ("encoder__num_layers", None, "int"),
    ],
)
def test_a_value_of_another_type_is_refused(path, value, kind):
    text = refusal(**{path: value})
    assert path.replace("__", ".") in text and text.endswith(f"it must be of type {kind}.")


def test_a_whole_number_is_a_fine_rate():
    config = changed(optimizer__weight_decay=1)
    config.validate()
    assert type(config.optimizer.weight_decay) is float


def test_a_misspelt_field_fails_at_once():
    with pytest.raises(AttributeError):
        changed(train__num_stepps=3)
    with pytest.raises(TypeError):
        c.TrainConfig(num_stepps=3)


def test_a_config_survives_being_stored_infinity_too():
    config = changed(optimizer__clip_global_norm=math.inf, masking__rate=0.1 + 0.2, data__path="ü")
    text = c.dumps(config)
    assert "Infinity" not in text and text.endswith("}\n")
    assert c.from_dict(c.PretrainConfig, json.loads(text)) == config
    assert c.to_dict(config)["optimizer"]["clip_global_norm"] == "inf"


def test_unknown_keys_are_refused_and_named():
    values = c.to_dict(c.PretrainConfig())
    values["encoder"]["num_experts"] = 8
    with pytest.raises(
        UserError, match=r"EncoderConfig .*num_experts.* Use the version that wrote"
    ):
        c.from_dict(c.PretrainConfig, values)


def test_field_paths_are_all_the_settings_in_order():
    paths = c.field_paths(changed(train__num_steps=7))
    assert list(paths)[:2] == ["seed", "data.path"]
    assert paths["train.num_steps"] == 7
    sections = [field.name for field in dataclasses.fields(c.PretrainConfig)][1:]
    count = sum(len(dataclasses.fields(getattr(c.PretrainConfig(), name))) for name in sections)
    assert len(paths) == count + 1


@pytest.mark.parametrize(
    ("size", "multiple", "padded"),
    [(50265, 128, 50304), (256, 128, 256), (257, 128, 384), (5, 1, 5)],
)
def test_the_vocabulary_is_padded_up_to_a_multiple(size, multiple, padded):
    encoder = c.EncoderConfig(vocab_size=size, vocab_padding_multiple=multiple)
    assert encoder.padded_vocab_size() == padded


@pytest.mark.parametrize(
    ("rate", "length", "slots"), [(0.15, 512, 77), (0.15, 32, 5), (0.01, 8, 1)]
)
def test_a_row_has_slots_for_all_its_predictions(rate, length, slots):
    assert c.MaskingConfig(rate=rate).max_masked(length) == slots
