"""As few parts as fit, and never a division that the devices cannot make."""

import dataclasses
import types

import jax
import pytest

from roberta_jax.config import EncoderConfig, MeshConfig, PretrainConfig, TrainConfig
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train import microbatches
from roberta_jax.train.microbatches import activation_bytes_per_row, with_microbatches
from roberta_jax.train.plan import make_plan

BASE = EncoderConfig(vocab_size=50_265)


def config_of(batch_size, *, num_microbatches=0, **encoder):
    return PretrainConfig(
        encoder=dataclasses.replace(BASE, **encoder),
        train=TrainConfig(batch_size=batch_size, num_microbatches=num_microbatches),
    )


def chosen(config, mesh=None):
    plan = make_plan(config, lambda path: 1)
    return with_microbatches(config, plan, mesh or make_mesh(MeshConfig())).phases[0]


def budget(monkeypatch, rows, config):
    """Gives every device memory for so many rows."""
    per_row = activation_bytes_per_row(config, config.data.sequence_length)
    monkeypatch.setattr(
        microbatches, "activation_budget_bytes", lambda config, mesh, total: rows * per_row
    )


@pytest.mark.parametrize(
    ("batch_size", "rows", "parts"),
    [
        (64, 8, 1),
        (64, 7, 2),
        (64, 4, 2),
        (64, 3, 4),
        (64, 1, 8),
        (64, 0, 8),
        (48, 4, 2),
        (48, 2, 3),
    ],
)
def test_it_is_the_smallest_number_of_parts_that_fit(monkeypatch, batch_size, rows, parts):
    config = config_of(batch_size)
    budget(monkeypatch, rows, config)
    assert chosen(config).num_microbatches == parts


def test_65_536_rows_are_divided_until_they_fit(monkeypatch):
    config = config_of(65_536)
    budget(monkeypatch, 100, config)
    phase = chosen(config)
    assert phase.num_microbatches == 128  # 8 devices with 64 rows each at a time.
    assert phase.batch_size % (8 * phase.num_microbatches) == 0


def test_a_number_that_is_given_is_taken(monkeypatch):
    config = config_of(64, num_microbatches=4)
    budget(monkeypatch, 1000, config)
    assert chosen(config).num_microbatches == 4


@pytest.mark.parametrize(("batch_size", "parts"), [(12, 0), (64, 16), (24, 2)])
def test_what_the_devices_cannot_divide_is_refused(batch_size, parts):
    with pytest.raises(UserError, match="cannot be split over 8 devices"):
        chosen(config_of(batch_size, num_microbatches=parts))


def test_what_is_computed_again_takes_no_memory():
    sizes = [
        activation_bytes_per_row(config_of(8, rematerialization=kind), 512)
        for kind in ("none", "dots", "full")
    ]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]
    assert activation_bytes_per_row(config_of(8, compute_dtype="float32"), 512) > 1.5 * sizes[0]


@pytest.mark.slow
def test_the_estimate_is_about_what_the_compiled_step_needs():
    """Not below it, which could run out of memory, and not far above, which would be slow."""
    from roberta_jax.objective.masking import MaskedBatch
    from roberta_jax.train.inputs import Inputs
    from roberta_jax.train.step import Pretraining
    from roberta_jax.train.update import gradient_of

    config = config_of(8, num_layers=4, hidden_size=128, num_heads=4, mlp_size=512, vocab_size=2000)
    config.data.sequence_length = length = 128
    slots = config.masking.max_masked(length)

    def temporary_bytes(rows):
        from roberta_jax.encoder.model import abstract_params

        shape = jax.ShapeDtypeStruct
        batch = MaskedBatch(
            shape((rows, length), "int32"),
            shape((rows, slots), "int32"),
            shape((rows, slots), "int32"),
            shape((rows, slots), "float32"),
        )
        inputs = Inputs(batch, keys=shape((rows,), "uint32"))
        run = jax.jit(
            lambda params, inputs: gradient_of(
                Pretraining(config, None), params, inputs, num_microbatches=1
            )
        )
        compiled = run.lower(abstract_params(config.encoder), inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    measured = (temporary_bytes(48) - temporary_bytes(16)) / 32
    estimate = activation_bytes_per_row(config, length)
    assert 0.7 * measured < estimate < 2.5 * measured, (measured, estimate)


def test_the_state_leaves_less_of_an_accelerator_for_activations():
    device = types.SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 80 * 10**9})
    shape = {"data": 2, "fsdp": 1, "context": 1, "tensor": 1}
    mesh = types.SimpleNamespace(local_devices=[device], shape=shape)
    config = config_of(8)
    found = microbatches.activation_budget_bytes(config, mesh)
    num_params = 124_696_665
    # Weights, gradient, its sum; half of two moments; the padding of the vocabulary on top.
    assert found == pytest.approx(0.8 * 80e9 - num_params * (12 + 4), rel=1e-3)
    config.optimizer.moments_dtype = "bfloat16"
    assert microbatches.activation_budget_bytes(config, mesh) - found == pytest.approx(
        2 * num_params, rel=1e-3
    )
    device.memory_stats = lambda: None  # Some devices don't tell.
    assert microbatches.activation_budget_bytes(config, mesh) > 0
