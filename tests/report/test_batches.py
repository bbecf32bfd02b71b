"""What a step of a run is, as its config says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax import config as config_module
from roberta_jax.report import batches
from roberta_jax.report.metrics import read_metrics
from tests.report.workdirs import make_config, make_lines, write_workdir

GOOGLE = (("90%", 256, 128), ("10%", 256, 512))
NVIDIA = (("7038 steps", 65_536, 128), ("1563 steps", 32_768, 512))


def config_of(*phases, **changes):
    """A config of phases, each (duration, rows, tokens)."""
    return make_config(
        phases=tuple(
            config_module.PhaseConfig(duration=duration, batch_size=rows, sequence_length=tokens)
            for duration, rows, tokens in phases
        ),
        **changes,
    )


def plain(*phases, **changes):
    return config_module.to_dict(config_of(*phases, **changes))


def axis(tmp_path, *configs, lines=None):
    runs = [
        read_metrics(
            write_workdir(tmp_path / str(number), lines or make_lines(num_steps=50), config)
        )
        for number, config in enumerate(configs)
    ]
    return batches.horizontal_axis(runs)


def test_a_run_without_phases_has_one_kind_of_batch():
    assert batches.batches(plain()) == [batches.Batches(None, 32, 128)]


def test_what_a_phase_leaves_open_is_as_in_the_rest_of_the_config():
    assert batches.batches(plain(("90%", 0, 0), ("10%", 64, 512))) == [
        batches.Batches("90%", 32, 128),
        batches.Batches("10%", 64, 512),
    ]


def test_runs_whose_steps_are_as_many_rows_are_drawn_over_the_steps(tmp_path):
    assert axis(tmp_path / "a", config_of()) == "step"
    assert axis(tmp_path / "b", config_of(), config_of(seed=1)) == "step"
    assert axis(tmp_path / "c", config_of(*NVIDIA), config_of(*NVIDIA, seed=1)) == "step"
    # The lengths of rows do not matter, nor where phases end whose batches are as large.
    assert axis(tmp_path / "d", config_of(*GOOGLE), config_of(train__batch_size=256)) == "step"


def test_runs_whose_steps_are_not_as_many_rows_are_drawn_over_the_rows(tmp_path):
    assert axis(tmp_path / "a", config_of(), config_of(train__batch_size=64)) == "examples_seen"
    assert axis(tmp_path / "b", config_of(*GOOGLE), config_of(*NVIDIA)) == "examples_seen"
    shares = (("90%", 64, 0), ("10%", 32, 0))  # A share of another length ends elsewhere.
    assert (
        axis(tmp_path / "c", config_of(*shares), config_of(*shares, train__duration="9 steps"))
        == "examples_seen"
    )


def test_where_a_run_did_not_record_its_rows_there_are_only_steps(tmp_path):
    lines = [{"kind": "train", "step": 1, "loss_nats": 1.0}]
    assert axis(tmp_path, config_of(), config_of(train__batch_size=64), lines=lines) == "step"


@pytest.mark.parametrize(
    ("phases", "duration", "rows", "tokens"),
    [
        ((), "9 steps", 100, 100 * 128),
        (GOOGLE, "1000 steps", 1_000, 1_000 * 128),
        (GOOGLE, "1000 steps", 256_000, 230_400 * 128 + 25_600 * 512),
        (NVIDIA, "", 65_536 * 7_038 + 5, 65_536 * 7_038 * 128 + 5 * 512),
        ((("12800 tokens", 4, 128), ("10 steps", 4, 512)), "", 101, 100 * 128 + 512),
        ((("90%", 4, 128), ("10%", 4, 512)), "12800 tokens", 91, 90 * 128 + 512),
    ],
)
def test_tokens_seen_are_counted_phase_by_phase(phases, duration, rows, tokens):
    values = plain(*phases, train__duration=duration)
    assert batches.tokens_seen(values, rows) == pytest.approx(tokens)


def test_tokens_seen_are_not_guessed():
    epochs = plain(("1 epoch", 4, 128), ("10 steps", 4, 512), train__duration="")
    assert math.isnan(batches.tokens_seen(epochs, 100))
    assert math.isnan(batches.tokens_seen({}, 100))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["train", "data", "phases", "duration", "batch_size", "sequence_length"]
                ),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: value if isinstance(value, dict) else {"phases": value})
)
def test_a_config_of_any_form_is_read(values):
    assert batches.batches(values)
    assert isinstance(batches.tokens_seen(values, 10), float)
    assert isinstance(batches.total_duration(values), str | None)
