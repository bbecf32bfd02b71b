"""Which shapes an encoder can have."""

import pytest

from roberta_jax import config as c
from tests.config.changes import assert_refused, changed, refusal


def test_the_default_shape_is_roberta_base():
    encoder = c.EncoderConfig()
    shape = (encoder.num_layers, encoder.hidden_size, encoder.num_heads, encoder.mlp_size)
    assert shape == (12, 768, 12, 3072)
    assert (encoder.position_offset, encoder.pad_id, encoder.num_token_types) == (2, 1, 0)


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("encoder__vocab_size", -1, "a count, or 0 for the dataset's"),
        ("encoder__vocab_padding_multiple", 0, "at least 1"),
        ("encoder__num_layers", 0, "at least 1"),
        ("encoder__hidden_size", 0, "at least 1"),
        ("encoder__num_heads", 0, "at least 1"),
        ("encoder__num_heads", 7, "a divisor of encoder.hidden_size=768"),
        ("encoder__mlp_size", -5, "at least 1"),
        ("encoder__max_positions", 0, "at least 1"),
        ("encoder__position_offset", -1, "0 or more"),
        ("encoder__pad_id", -1, "0 or more"),
        ("encoder__num_token_types", -1, "0 or more"),
        ("encoder__embedding_dropout_rate", 1.0, "in [0, 1)"),
        ("encoder__dropout_rate", 1.0, "in [0, 1)"),
        ("encoder__attention_dropout_rate", -0.1, "in [0, 1)"),
        ("encoder__activation_dropout_rate", 1.5, "in [0, 1)"),
        ("encoder__layer_norm_epsilon", 0.0, "positive"),
        ("encoder__initializer_range", 0.0, "positive"),
        ("encoder__compute_dtype", "float16", "one of bfloat16, float32"),
        ("encoder__rematerialization", "some", "one of none, dots, full"),
        ("encoder__attention_implementation", "flash", "one of auto, xla, cudnn"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    assert_refused(path, value, allowed)


def test_the_fused_kernel_has_no_dropout():
    text = refusal(encoder__attention_implementation="cudnn")
    assert "encoder.attention_dropout_rate is 0.1" in text
    assert "0 with encoder.attention_implementation=cudnn" in text
    changed(
        encoder__attention_implementation="cudnn", encoder__attention_dropout_rate=0.0
    ).validate()


def test_the_edges_of_what_is_allowed_are_allowed():
    changed(
        encoder__position_offset=0,
        encoder__pad_id=0,
        encoder__num_token_types=2,
        encoder__embedding_dropout_rate=0.0,
        encoder__dropout_rate=0.0,
        encoder__attention_dropout_rate=0.0,
        encoder__activation_dropout_rate=0.999,
        encoder__vocab_padding_multiple=1,
    ).validate()


@pytest.mark.parametrize(
    ("size", "multiple", "padded"),
    [(50265, 128, 50304), (256, 128, 256), (257, 128, 384), (5, 1, 5)],
)
def test_the_vocabulary_is_padded_up_to_a_multiple(size, multiple, padded):
    encoder = c.EncoderConfig(vocab_size=size, vocab_padding_multiple=multiple)
    assert encoder.padded_vocab_size() == padded
