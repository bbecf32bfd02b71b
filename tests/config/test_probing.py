"""What a probe may be."""

import math

import pytest

from roberta_jax import config as c
from tests.config.changes import assert_refused, changed, refusal


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("probe__every_steps", -1, "0 or more"),
        ("probe__kind", "cubic", "one of linear, finetune"),
        ("probe__train_examples", 0, "at least 1"),
        ("probe__dev_examples", 0, "at least 1"),
        ("probe__batch_size", 0, "at least 1"),
        ("probe__epochs", 0.0, "positive"),
        ("probe__epochs", math.inf, "positive"),
        ("probe__learning_rate", -1e-4, "positive"),
        ("probe__learning_rate", math.nan, "positive"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    assert_refused(path, value, allowed)


def test_a_probe_that_is_asked_for_needs_files():
    text = refusal(probe__every_steps=100)
    assert text.startswith('config.probe.path is ""; it must be the folder')
    changed(probe__every_steps=100, probe__path="glue").validate()


def test_one_that_is_not_asked_for_needs_none():
    changed(probe__every_steps=0).validate()
    assert c.ProbeConfig().every_steps == 0


def test_a_probe_survives_a_round_trip():
    config = changed(probe__every_steps=5, probe__path="glue", probe__kind="finetune")
    assert c.from_dict(c.PretrainConfig, c.to_dict(config)) == config
