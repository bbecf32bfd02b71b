"""Durations become steps, phases add up, and warm-ups fit."""

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st

from roberta_jax.config import PhaseConfig, PretrainConfig, ScheduleConfig, TrainConfig
from roberta_jax.errors import UserError
from roberta_jax.train.plan import make_plan

ROWS = {"": 1_000, "long": 250}


def plan_of(duration="100 steps", *phases, batch_size=10, schedule=None, **changes):
    """A plan over rows of 512 tokens."""
    config = PretrainConfig(
        train=TrainConfig(duration=duration, batch_size=batch_size),
        schedule=schedule or ScheduleConfig(warmup="0 steps"),
        phases=phases,
    )
    for name, value in changes.items():
        setattr(config.optimizer, name, value)
    return make_plan(config, ROWS.__getitem__)


def refusal(*arguments, **options):
    with pytest.raises(UserError) as caught:
        plan_of(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("100 steps", 100),
        ("512000 tokens", 100),
        ("512001 tokens", 101),
        ("1 tokens", 1),
        ("3 epochs", 300),
        ("0.5 epochs", 50),
        ("1e6 steps", 1_000_000),
    ],
)
def test_a_duration_in_any_unit_becomes_whole_steps(duration, steps):
    plan = plan_of(duration)
    assert plan.num_steps == steps
    assert plan.num_rows == 10 * steps and plan.num_tokens == 5120 * steps


def test_an_epoch_is_as_many_rows_as_the_dataset_has():
    plan = plan_of("3 epochs")
    assert plan.phases[0].epochs == 3.0 and plan.num_rows == 3 * ROWS[""]


def test_bert_trains_on_short_rows_for_nine_tenths_of_its_steps():
    phases = (PhaseConfig(duration="90%", sequence_length=128), PhaseConfig(duration="10%"))
    plan = plan_of("1000000 steps", *phases, batch_size=256)
    short, long = plan.phases
    assert (short.first_step, short.end_step, short.sequence_length) == (0, 900_000, 128)
    assert (long.first_step, long.end_step, long.sequence_length) == (900_000, 1_000_000, 512)
    # One schedule over both.
    (stretch,) = plan.stretches
    assert (stretch.first_step, stretch.end_step) == (0, 1_000_000)


def test_phases_of_their_own_units_and_schedules_follow_each_other():
    plan = plan_of(
        "",
        PhaseConfig(duration="8 steps", batch_size=100, peak_learning_rate=6e-3, warmup="25%"),
        PhaseConfig(duration="1 epochs", path="long"),
        PhaseConfig(duration="51200 tokens", peak_learning_rate=4e-3, warmup="10240 tokens"),
        peak_learning_rate=1e-3,
    )
    assert [(phase.first_step, phase.end_step) for phase in plan.phases] == [
        *((0, 8), (8, 33), (33, 43))
    ]
    first, second = plan.stretches
    assert (first.first_step, first.end_step, first.warmup_steps) == (0, 33, 8)
    assert (second.first_step, second.end_step, second.warmup_steps) == (33, 43, 2)
    assert (first.peak_learning_rate, second.peak_learning_rate) == (6e-3, 4e-3)


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [("7 steps", 7), ("6%", 6), ("51200 tokens", 10), ("0.1 epochs", 10), ("0 steps", 0)],
)
def test_a_warm_up_in_any_unit_becomes_steps(warmup, steps):
    (stretch,) = plan_of(schedule=ScheduleConfig(warmup=warmup)).stretches
    assert stretch.warmup_steps == steps


def test_a_warm_up_in_tokens_counts_through_phases():
    phases = (PhaseConfig(duration="50%", batch_size=1), PhaseConfig(duration="50%"))
    plan = plan_of("20 steps", *phases, schedule=ScheduleConfig(warmup="20480 tokens"))
    # Ten steps of 512 tokens, and three of 5,120.
    assert plan.stretches[0].warmup_steps == 13


def test_the_last_decay_counts_from_the_end():
    schedule = ScheduleConfig(kind="warmup_stable_decay", warmup="1 steps", decay="10240 tokens")
    phases = (PhaseConfig(duration="50%"), PhaseConfig(duration="50%", batch_size=1))
    plan = plan_of("20 steps", *phases, schedule=schedule)
    # Ten steps of 512 tokens at the end, and one of 5,120 before.
    assert plan.stretches[0].decay_steps == 11


def test_a_duration_in_tokens_is_shared_by_phases_in_percent():
    phases = (PhaseConfig(duration="90%", sequence_length=128), PhaseConfig(duration="10%"))
    plan = plan_of("1e9 tokens", *phases, batch_size=256)
    assert plan.num_tokens == pytest.approx(1e9, rel=1e-4) and plan.num_tokens >= 1e9
    assert plan.phases[0].end_step == round(0.9 * plan.num_steps)


@hypothesis.given(
    shares=st.lists(st.integers(1, 40), min_size=1, max_size=6), total=st.integers(100, 10**6)
)
def test_phases_in_percent_cover_every_step_once(shares, total):
    percent = [100 * share / sum(shares) for share in shares]
    hypothesis.assume(all(share * total > 200 for share in percent))
    phases = [PhaseConfig(duration=f"{share!r}%") for share in percent]
    plan = plan_of(f"{total} steps", *phases)
    assert plan.num_steps == total
    for step in (0, total // 2, total - 1):
        (phase,) = [one for one in plan.phases if one.first_step <= step < one.end_step]
        assert plan.phase_after(step) is phase
    assert plan.phase_after(total) is plan.phases[-1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("100 steps", PhaseConfig(duration="90%"), PhaseConfig(duration="20%")),
            {},
            "config.phases, 90% + 20%, add up to 110%",
        ),
        (
            ("100 steps", PhaseConfig(duration="90%"), PhaseConfig(duration="10 steps")),
            {},
            "they must all be in %",
        ),
        (
            ("100 steps", PhaseConfig(duration="90 steps"), PhaseConfig(duration="20 steps")),
            {},
            "are 110 steps together, and config.train.duration is '100 steps'. Set it to \"110",
        ),
        (("", PhaseConfig(duration="100%")), {}, "of a run without a length"),
        (
            ("10 steps", PhaseConfig(duration="99%"), PhaseConfig(duration="1%")),
            {},
            "config.phases[1].duration is '1%', which is less than one step",
        ),
        (("0 steps",), {}, "which is no step"),
        (
            ("100 steps",),
            {"schedule": ScheduleConfig(warmup="24000 steps")},
            "config.schedule.warmup is '24000 steps', 24,000 of the 100 steps",
        ),
        (
            (
                "",
                PhaseConfig(duration="10 steps", peak_learning_rate=1e-3, warmup="10 steps"),
                PhaseConfig(duration="90 steps", peak_learning_rate=1e-3, warmup="1%"),
            ),
            {},
            "config.phases[0].warmup is '10 steps', 10 of the 10 steps",
        ),
        (
            ("100 steps",),
            {"schedule": ScheduleConfig(kind="warmup_stable_decay", warmup="60%", decay="50%")},
            "60 and 50 steps do not fit into the 100",
        ),
    ],
)
def test_phases_and_warm_ups_that_do_not_fit_are_refused(arguments, options, message):
    assert message in refusal(*arguments, **options)


def test_the_sum_of_the_phases_may_be_given():
    phases = (PhaseConfig(duration="90 steps"), PhaseConfig(duration="20 steps"))
    assert plan_of("110 steps", *phases) == plan_of("", *phases)


def test_the_sum_of_the_phases_may_be_given_in_any_unit():
    phases = (PhaseConfig(duration="512000 tokens"), PhaseConfig(duration="100 tokens"))
    assert plan_of("512100 tokens", *phases) == plan_of("", *phases)
    phases = (PhaseConfig(duration="1 epochs"), PhaseConfig(duration="0.5 epochs", path="long"))
    assert plan_of("1.5 epochs", *phases).num_steps == 100 + 13
    assert "are 113 steps together" in refusal("1.9 epochs", *phases)


def test_what_a_phase_leaves_open_is_as_in_the_rest_of_the_config():
    (phase,) = plan_of("10 steps", PhaseConfig(duration="100%")).phases
    (alone,) = plan_of("10 steps").phases
    assert phase == alone
    assert dataclasses.asdict(phase) == {
        "number": 0,
        "first_step": 0,
        "end_step": 10,
        "path": "",
        "batch_size": 10,
        "num_microbatches": 0,
        "sequence_length": 512,
        "num_rows": 1_000,
    }
