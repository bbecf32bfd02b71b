"""A length is a number with one unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.config.duration import UNITS, Duration
from roberta_jax.errors import UserError

NUMBERS = st.floats(min_value=0, max_value=1e18, allow_nan=False).filter(
    lambda number: number == 0 or number > 1e-12
)


def refusal(text):
    with pytest.raises(UserError) as caught:
        Duration.parse(text, "train.duration")
    message = str(caught.value)
    assert message.startswith(f"config.train.duration is {text!r}; it must be a number with one ")
    assert message.endswith(".") and message.count("\n") == text.count("\n") == 0
    return message


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("500000 steps", 500_000, "steps"),
        ("500,000 steps", 500_000, "steps"),
        ("500_000 steps", 500_000, "steps"),
        ("5e5 steps", 500_000, "steps"),
        ("1 step", 1, "steps"),
        ("0 steps", 0, "steps"),
        ("2.1e12 tokens", 2.1e12, "tokens"),
        ("2E9 tokens", 2e9, "tokens"),
        ("40 epochs", 40, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("10%", 10, "%"),
        (" 28.43 % ", 28.43, "%"),
        ("100%", 100, "%"),
        ("7 Steps", 7, "steps"),
    ],
)
def test_a_duration_is_read_with_its_unit(text, number, unit):
    assert Duration.parse(text, "train.duration") == Duration(number, unit)


@given(number=NUMBERS, unit=st.sampled_from(UNITS))
def test_what_is_written_is_read_again(number, unit):
    if unit == "steps":
        number = float(round(number))
    if unit == "%":
        number = min(number, 100.0)
    assert Duration.parse(f"{number!r} {unit}", "train.duration") == Duration(number, unit)


@given(
    number=st.integers(0, 10**9),
    unit=st.text(st.characters(codec="ascii", categories=["Lu", "Ll"]), min_size=1).filter(
        lambda unit: unit.lower().removesuffix("s") not in ("step", "token", "epoch")
    ),
)
def test_a_unit_that_is_not_known_is_refused(number, unit):
    refusal(f"{number} {unit}")


@given(
    first=st.sampled_from(UNITS),
    second=st.sampled_from(UNITS),
    between=st.sampled_from(["", " ", " 5 ", ", 5 ", " + 5 "]),
)
def test_two_units_are_refused(first, second, between):
    refusal(f"5 {first}{between}{second}")


@given(share=st.floats(min_value=100, exclude_min=True, max_value=1e9))
def test_more_than_the_whole_is_refused(share):
    refusal(f"{share!r}%")


@given(number=st.floats(min_value=0, max_value=1e9).filter(lambda number: number % 1))
def test_a_part_of_a_step_is_refused(number):
    assert "a whole number of steps" in refusal(f"{number!r} steps")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "500000",
        "steps",
        "-5 steps",
        "inf steps",
        "nan%",
        "1.2.3 tokens",
        "% 10",
        "1e tokens",
    ],
)
def test_what_is_no_number_with_a_unit_is_refused(text):
    refusal(text)


@pytest.mark.parametrize(
    "unit",
    [
        "steps",
        "tokens",
        "epochs",
        "%",
    ],
)
def test_a_number_that_no_float_holds_is_refused(unit):
    refusal(f"1e400 {unit}")
