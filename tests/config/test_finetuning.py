"""What a fine-tuning run may be, and the lists of its sweep."""

import json
import math

import pytest

from roberta_jax import config as c
from roberta_jax.errors import UserError


def changed(**changes):
    """The defaults with section__field=value."""
    config = c.FinetuneConfig()
    for path, value in changes.items():
        section, _, field = path.rpartition("__")
        setattr(getattr(config, section) if section else config, field, value)
    return config


def refusal(**changes):
    """The text of the UserError of `validate`, one paragraph about a setting."""
    with pytest.raises(UserError) as caught:
        changed(**changes).validate()
    text = str(caught.value)
    assert "\n" not in text and text.startswith("config.") and text.endswith(".")
    return text


def test_the_defaults_are_the_paper_s_for_glue():
    config = c.FinetuneConfig()
    config.validate()
    assert (config.fit.epochs, config.schedule.warmup, config.schedule.kind) == (10, "6%", "linear")
    optimizer = config.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.98, 1e-6)
    assert optimizer.weight_decay == 0.1 and optimizer.clip_global_norm == math.inf


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("seed", -1, "in [0, 2^30)"),
        ("seed", 2**30, "in [0, 2^30)"),
        ("num_seeds", 0, "1 to 1000"),
        ("num_seeds", 1001, "1 to 1000"),
        ("data__train_share", 0.0, "in (0, 1]"),
        ("data__train_share", 1.01, "in (0, 1]"),
        ("data__train_share", math.nan, "in (0, 1]"),
        ("data__max_length", 7, "at least 8 tokens, or 0"),
        ("data__max_length", -1, "at least 8 tokens, or 0"),
        ("data__window_stride", 0, "at least 1"),
        ("data__max_question_tokens", 0, "at least 1"),
        ("data__max_option_tokens", 0, "at least 1"),
        ("table__kind", "ranking", "one of classification, regression, tokens"),
        ("table__dev_fraction", 0.0, "between 0 and 1"),
        ("table__dev_fraction", 1.0, "between 0 and 1"),
        ("model__embedding_dropout_rate", 1.0, "in [0, 1)"),
        ("model__dropout_rate", -0.1, "in [0, 1)"),
        ("model__attention_dropout_rate", math.nan, "in [0, 1)"),
        ("model__head_dropout_rate", 1.5, "in [0, 1)"),
        ("model__compute_dtype", "float16", "one of auto, bfloat16, float32"),
        ("model__rematerialization", "some", "one of none, dots, full"),
        ("fit__epochs", 0.0, "positive"),
        ("fit__epochs", math.inf, "positive"),
        ("fit__batch_size", 0, "at least 1"),
        ("fit__evaluations_per_epoch", 0, "at least 1"),
        ("fit__log_every_steps", 0, "at least 1"),
        ("fit__save_every_steps", 0, "at least 1"),
        ("fit__seeds_at_once", -1, "0 or more"),
        ("fit__learning_rates", "1e-5,0", "positive numbers"),
        ("fit__learning_rates", "1e-5,inf", "positive numbers"),
        ("fit__learning_rates", "nan", "positive numbers"),
        ("fit__learning_rates", "1e-5,0.00001", "without repetitions"),
        ("fit__batch_sizes", "16,-32", "positive numbers"),
        ("fit__batch_sizes", "16,16", "without repetitions"),
        # Sections that pretraining has as well are looked at, too.
        ("optimizer__peak_learning_rate", 0.0, "positive"),
        ("schedule__kind", "stairs", "one of linear"),
        ("mesh__granule", "node", "one of auto, slice, process"),
        # What is of no use here.
        ("optimizer__average_decay", 0.99, "0: the best evaluation decides"),
        ("schedule__warmup", "1e6 tokens", "in %, steps or epochs"),
        ("schedule__decay", "1e6 tokens", "in %, steps or epochs"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    text = refusal(**{path: value})
    assert path.replace("__", ".") in text and str(value) in text and allowed in text


@pytest.mark.parametrize("axis", ["fsdp", "tensor", "context"])
def test_only_the_rows_of_a_batch_are_split(axis):
    assert "over mesh.data" in refusal(**{f"mesh__{axis}": 2})
    changed(mesh__data=2).validate()


def test_words_with_labels_have_one_text():
    text = refusal(table__kind="tokens", table__text_pair="other")
    assert text.startswith("config.table.text_pair is 'other'; it must be")
    changed(table__kind="regression", table__text_pair="other").validate()


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("fit__batch_size", 16.0, "int"),
        ("fit__learning_rates", 1e-5, "str"),
        ("model__random_weights", 1, "bool"),
        ("data__train_share", "0.1", "float"),
    ],
)
def test_a_value_of_another_type_is_refused(path, value, kind):
    assert refusal(**{path: value}).endswith(f"it must be of type {kind}.")


def test_the_edges_of_what_is_allowed_are_allowed():
    changed(
        seed=2**30 - 1,
        num_seeds=1000,
        data__train_share=1.0,
        data__max_length=8,
        model__dropout_rate=0.0,
        fit__epochs=0.01,
        fit__seeds_at_once=3,
        schedule__warmup="0 steps",
    ).validate()


# ---- The sweep ----------------------------------------------------------------------------------


def test_without_lists_a_sweep_has_one_rate_and_one_batch():
    config = changed(optimizer__peak_learning_rate=3e-5, fit__batch_size=48)
    assert (config.rates(), config.batches()) == ((3e-5,), (48,))


def test_lists_replace_the_single_values_in_their_order():
    config = changed(fit__learning_rates="3e-5, 1e-5,0.002", fit__batch_sizes="32, 16")
    config.validate()
    assert config.rates() == (3e-5, 1e-5, 2e-3)
    assert config.batches() == (32, 16) and all(type(size) is int for size in config.batches())


@pytest.mark.parametrize(
    ("path", "text", "example"),
    [
        ("fit__learning_rates", "1e-5;2e-5", "1e-5,2e-5,3e-5"),
        ("fit__learning_rates", "1e-5,", "1e-5,2e-5,3e-5"),
        ("fit__learning_rates", "small", "1e-5,2e-5,3e-5"),
        ("fit__batch_sizes", "16 32", "16,32"),
        ("fit__batch_sizes", "16.5", "16,32"),
        ("fit__batch_sizes", ",", "16,32"),
    ],
)
def test_a_list_that_is_none_is_refused_with_an_example(path, text, example):
    found = refusal(**{path: text})
    assert repr(text) in found and found.endswith(f"such as {example}.")


def test_seeds_are_numbered_from_the_first():
    assert c.FinetuneConfig().seeds() == (0,)
    assert changed(seed=7, num_seeds=3).seeds() == (7, 8, 9)


# ---- Stored -------------------------------------------------------------------------------------


def test_a_config_survives_a_round_trip_through_json():
    config = changed(
        task="squad2",
        data__path="squad",
        table__kind="tokens",
        fit__learning_rates="1e-5,2e-5",
        model__random_weights=True,
        optimizer__clip_global_norm=1.5,
    )
    for each in (c.FinetuneConfig(), config):
        stored = json.loads(json.dumps(c.to_dict(each), allow_nan=False))
        assert c.from_dict(c.FinetuneConfig, stored) == each
    assert config != c.FinetuneConfig()


def test_a_stored_config_of_another_version_is_refused_or_filled_up():
    stored = c.to_dict(c.FinetuneConfig())
    del stored["fit"]["seeds_at_once"]
    assert c.from_dict(c.FinetuneConfig, stored) == c.FinetuneConfig()
    stored["fit"]["momentum"] = 0.9
    with pytest.raises(UserError, match=r"FitConfig.*momentum"):
        c.from_dict(c.FinetuneConfig, stored)
