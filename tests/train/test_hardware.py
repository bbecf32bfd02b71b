"""Floating-point operations of a step, by hand."""

import types

import jax
import pytest

from roberta_jax.train import hardware
from roberta_jax.train.hardware import peak_share, step_flops
from roberta_jax.train.plan import make_plan
from tests.train.runs import tiny_config


def flops_of(**changes):
    config = tiny_config(encoder__vocab_size=300, **changes)
    return step_flops(config, make_plan(config, lambda path: 1).phases[0])


def test_the_operations_of_a_small_step_are_the_ones_counted_by_hand():
    # A token in a layer of width 16: four products 16 x 16 (query, key, value, out), two 16 x 32,
    # and attention over 32 tokens twice (scores, mixture); 2 operations per multiply-add.
    layer = 2 * (4 * 16 * 16 + 2 * 16 * 32 + 2 * 32 * 16)
    # A prediction: dense 16 x 16 and the projection on 300 entries. 15% of 32 tokens: 5 slots.
    prediction = 2 * (16 * 16 + 16 * 300)
    row = 32 * 2 * layer + 5 * prediction
    assert flops_of() == 3 * 16 * row  # 16 rows; backward is twice forward.


@pytest.mark.parametrize("change", ["rematerialization", "vocab_padding_multiple", "num_heads"])
def test_only_useful_work_is_counted(change):
    other = {"rematerialization": "full", "vocab_padding_multiple": 128, "num_heads": 4}[change]
    assert flops_of(**{f"encoder__{change}": other}) == flops_of()


def test_microbatches_are_the_same_work():
    assert flops_of(train__num_microbatches=4) == flops_of()


def test_a_cpu_has_no_known_peak():
    assert peak_share(1e12, 1.0) is None


def test_the_share_of_the_peak_is_over_all_devices(monkeypatch):
    device = types.SimpleNamespace(device_kind="TPU v5 lite")
    monkeypatch.setattr(jax, "devices", lambda: [device] * 4)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert peak_share(4 * 197e12, 1.0) == pytest.approx(1.0)
    assert peak_share(4 * 197e12, 4.0) == pytest.approx(0.25)


def test_every_peak_is_that_of_a_known_kind_of_chip():
    for kind, peak in hardware.PEAK_FLOPS.items():
        assert kind.startswith(("TPU v", "NVIDIA ")) and 1e14 < peak < 1e16
