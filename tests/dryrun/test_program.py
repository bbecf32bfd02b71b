"""What is handed to the compiler, where there is no dataset and no device."""

import dataclasses
import math

import pytest

from roberta_jax.config import MaskingConfig, PhaseConfig
from roberta_jax.dryrun.program import batch_shapes, prepare
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh, mesh_sizes
from roberta_jax.train.microbatches import with_microbatches
from roberta_jax.train.plan import make_plan
from tests.dryrun.cases import tiny_config

CPU = parse_topology("cpu:8")


def test_the_mesh_is_that_of_a_run():
    config = tiny_config(mesh={"fsdp": 4})
    assert prepare(config, CPU, math.inf).mesh == make_mesh(config.mesh)


def test_what_is_left_open_takes_what_is_left():
    config = tiny_config(mesh={"data": 16, "fsdp": -1, "tensor": 2})
    assert mesh_sizes(config.mesh, parse_topology("v5e:16x16").num_devices, "") == (16, 8, 1, 2)


def test_without_a_dataset_the_vocabulary_is_that_of_roberta():
    prepared = prepare(tiny_config(vocab_size=0), CPU, math.inf)
    assert prepared.config.encoder.vocab_size == 50_265
    assert prepared.maker.masker.vocab_size == 50_265


def test_pairs_have_labels_and_whole_words_a_table():
    config = dataclasses.replace(
        tiny_config(next_sentence_head=True, num_token_types=2),
        masking=MaskingConfig(whole_words=True),
    )
    prepared = prepare(config, CPU, math.inf)
    assert prepared.maker.next_sentence and prepared.maker.token_types
    assert len(prepared.maker.masker.word_starts) == 200
    batch = batch_shapes(prepared.config, prepared.plan.phases[0], prepared.maker, prepared.mesh)
    assert batch["labels"].shape == (16, 1) and batch["tokens"].shape == (16, 16)


def test_microbatches_that_are_left_open_are_chosen_by_the_memory_of_a_chip():
    encoder = {"num_layers": 12, "hidden_size": 1024, "max_positions": 512}
    config = tiny_config(batch_size=8192, num_microbatches=0, **encoder)
    config.data.sequence_length = 512
    prepared, plan = prepare(config, CPU, math.inf), make_plan(config, lambda path: 1)
    chosen = [
        with_microbatches(config, plan, prepared.mesh, device_bytes=memory)
        .phases[0]
        .num_microbatches
        for memory in (2**40, 2**37, 2**34)
    ]
    assert chosen == sorted(chosen) and 1 <= chosen[0] < chosen[-1]
    assert all(8192 // 8 % parts == 0 for parts in chosen)


def test_every_phase_has_its_own_batch():
    config = dataclasses.replace(
        tiny_config(),
        phases=(
            PhaseConfig(duration="90%", sequence_length=8, batch_size=32),
            PhaseConfig(duration="10%"),
        ),
    )
    phases = prepare(config, CPU, math.inf).plan.phases
    assert [(each.batch_size, each.sequence_length) for each in phases] == [(32, 8), (16, 16)]


def test_a_length_in_epochs_needs_a_dataset():
    config = tiny_config()
    config.train.duration = "3 epochs"
    with pytest.raises(UserError, match="without a dataset"):
        prepare(config, CPU, math.inf)


def test_a_dataset_that_is_not_there_is_refused():
    config = tiny_config()
    config.data.path = "nowhere"
    with pytest.raises(UserError, match="nowhere"):
        prepare(config, CPU, math.inf)
