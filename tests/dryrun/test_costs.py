"""Times against arithmetic by hand."""

import dataclasses
import json

import pytest

from roberta_jax.dryrun.chips import CHIPS
from roberta_jax.dryrun.costs import run_seconds, step_time
from roberta_jax.dryrun.result import result_from
from tests.dryrun.cases import phase_result, result


def test_the_range_of_a_step():
    time = step_time(phase_result(peak=4), 16, CHIPS["v5e"])
    assert time.matmul == pytest.approx(2.0) and time.memory == pytest.approx(1.0)
    assert time.links == pytest.approx(0.01)
    assert time.fastest == pytest.approx(2.0)  # The products hide the rest.
    assert time.slowest == pytest.approx(2 / 0.5 + 1 + 4 * 0.01)  # One of four links.


def test_a_run_takes_the_steps_of_all_its_phases():
    both = result(phase_result(peak=4), phase_result(peak=4, num_steps=43_200))
    fastest, slowest = run_seconds(both, 16, CHIPS["v5e"])
    assert fastest == pytest.approx(1.5 * 86_400 * 2)
    assert slowest == pytest.approx(1.5 * 86_400 * 5.04)


def test_what_does_not_compile_has_no_time():
    missing = phase_result(needed=20)
    assert step_time(missing, 16, CHIPS["v5e"]) is None
    assert run_seconds(result(phase_result(peak=4), missing), 16, CHIPS["v5e"]) is None


def test_a_result_survives_json():
    one = result(phase_result(peak=4), phase_result(needed=20))
    assert result_from(json.loads(json.dumps(dataclasses.asdict(one)))) == one
