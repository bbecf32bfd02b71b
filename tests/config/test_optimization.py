"""Which optimizers and schedules there are."""

import math

import pytest

from roberta_jax import config as c
from roberta_jax.config.optimization import OPTIMIZERS, SCHEDULES
from tests.config.changes import assert_refused, changed, refusal


def test_the_defaults_are_roberta_base():
    optimizer, schedule = c.OptimizerConfig(), c.ScheduleConfig()
    assert (optimizer.kind, optimizer.peak_learning_rate) == ("adamw", 6e-4)
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.98, 1e-6)
    assert (optimizer.weight_decay, optimizer.clip_global_norm) == (0.01, math.inf)
    assert (schedule.kind, schedule.warmup) == ("linear", "24000 steps")


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("optimizer__kind", "sgd", "one of adamw, lamb"),
        ("optimizer__peak_learning_rate", 0.0, "positive"),
        ("optimizer__peak_learning_rate", math.nan, "positive"),
        ("optimizer__beta1", 1.0, "in [0, 1)"),
        ("optimizer__beta2", -0.1, "in [0, 1)"),
        ("optimizer__average_decay", 1.0, "in [0, 1)"),
        ("optimizer__epsilon", 0.0, "positive"),
        ("optimizer__weight_decay", -0.01, "0 or more"),
        ("optimizer__decay_table", "all", "one of bert, fairseq"),
        ("optimizer__clip_global_norm", 0.0, "positive, or inf"),
        ("optimizer__moments_dtype", "float16", "one of float32, bfloat16"),
        ("schedule__kind", "constant", "one of linear, polynomial, cosine, inverse_sqrt"),
        ("schedule__warmup", "24000", "a number with one unit"),
        ("schedule__warmup", "0.5 steps", "a whole number of steps"),
        ("schedule__warmup", "101%", "at most 100%"),
        ("schedule__decay", "", "a number with one unit"),
        ("schedule__decay", "10 hours", "a number with one unit"),
        ("schedule__final_share", -0.1, "in [0, 1]"),
        ("schedule__final_share", 1.1, "in [0, 1]"),
        ("schedule__power", 0.0, "positive"),
        ("schedule__power", 0.5, "1 with schedule.kind=linear"),
        ("schedule__decay_from", "end", "one of warmup, start"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    assert_refused(path, value, allowed)


def test_lamb_leaves_biases_and_layer_norms_alone():
    text = refusal(optimizer__kind="lamb", optimizer__decay_table="fairseq")
    assert text.startswith("config.optimizer.decay_table is 'fairseq'; it must be bert with ")


def test_what_a_schedule_does_not_use_cannot_be_set():
    text = refusal(schedule__kind="inverse_sqrt", schedule__final_share=0.1)
    assert text.startswith("config.schedule.final_share is 0.1; it must be 0 with ")
    for kind in ("inverse_sqrt", "warmup_stable_decay"):
        text = refusal(schedule__kind=kind, schedule__decay_from="start")
        assert text.startswith("config.schedule.decay_from is start; it must be warmup with ")
    changed(schedule__kind="polynomial", schedule__power=0.5).validate()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_goes_with_every_schedule(kind, schedule):
    changed(optimizer__kind=kind, schedule__kind=schedule).validate()


@pytest.mark.parametrize("warmup", ["0 steps", "24000 steps", "1e9 tokens", "2 epochs", "6%"])
def test_a_warmup_has_any_unit(warmup):
    changed(schedule__warmup=warmup).validate()


def test_the_edges_of_what_is_allowed_are_allowed():
    changed(
        optimizer__beta1=0.0,
        optimizer__bias_correction=False,
        optimizer__weight_decay=0.0,
        optimizer__clip_global_norm=math.inf,
        optimizer__average_decay=0.9999,
        optimizer__moments_dtype="bfloat16",
        schedule__final_share=1.0,
        schedule__decay="100%",
    ).validate()
