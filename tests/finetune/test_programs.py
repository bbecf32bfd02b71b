"""A sweep over seeds and learning rates compiles once."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.errors import MachineError
from roberta_jax.finetune import trial as trial_module
from roberta_jax.finetune.finetune import finetune
from roberta_jax.finetune.objective import TaskObjective, head_of
from roberta_jax.finetune.programs import SharedPrograms, explained_memory
from roberta_jax.finetune.rows import BatchMaker
from roberta_jax.optim.schedule import make_schedule
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.tasks.results import read_results
from roberta_jax.tasks.task import Task
from roberta_jax.train.plan import make_plan
from tests.encoder import tiny
from tests.finetune.tasks_on_disk import finetune_config, write_sst2

TASK = Task(name="t", title="T", kind="classification", labels=("a", "b", "c"))


def plan_of(peak=1.0, num_steps=20):
    config = c.PretrainConfig(
        data=c.DataConfig(path="train", sequence_length=16),
        optimizer=c.OptimizerConfig(peak_learning_rate=peak),
        schedule=c.ScheduleConfig(warmup="6%"),
        train=c.TrainConfig(duration=f"{num_steps} steps", batch_size=8, num_microbatches=1),
    )
    return make_plan(config, lambda path: 80)


def test_seeds_and_rate_are_no_part_of_the_program():
    mesh = make_mesh(c.MeshConfig())
    objective = TaskObjective(tiny.CONFIG, head_of(TASK), TASK.kind)
    maker = BatchMaker(mesh, pad_id=1, token_types=False, max_length=16)
    encoder = {name: tiny.random_params(5)[name] for name in ("embedding", "layers")}
    shared = SharedPrograms(
        objective,
        maker,
        encoder,
        optimizer=c.OptimizerConfig(),
        schedule=c.ScheduleConfig(warmup="6%"),
    )
    programs = shared.of(2, plan_of())
    assert shared.of(2, plan_of()) is programs
    assert shared.of(1, plan_of()) is not programs is not shared.of(2, plan_of(num_steps=30))
    assert shared.of(2, plan_of(num_steps=30)).predict is programs.predict
    batch = {
        "tokens": np.full((2, 8, 16), 5, np.int32),
        "targets": np.zeros((2, 8), np.int32),
        "weights": np.ones((2, 8), np.float32),
    }
    with jax.set_mesh(mesh):
        texts = {
            programs.step.lower(
                programs.target, batch, jnp.array(seeds, jnp.uint32), jnp.float32(peak)
            ).as_text()
            for seeds, peak in (((3, 4), 1e-5), ((3, 4), 3e-5), ((7, 8), 1e-5))
        }
    assert len(texts) == 1


@pytest.mark.parametrize("table", ["bert", pytest.param("fairseq", marks=pytest.mark.slow)])
def test_the_decay_is_that_of_the_config(table):
    """Rows that weigh nothing give a gradient of 0: the decay alone moves the weights."""
    mesh = make_mesh(c.MeshConfig())
    encoder = {name: tiny.random_params(5)[name] for name in ("embedding", "layers")}
    programs = SharedPrograms(
        TaskObjective(tiny.CONFIG, head_of(TASK), TASK.kind),
        BatchMaker(mesh, pad_id=1, token_types=False, max_length=16),
        encoder,
        optimizer=c.OptimizerConfig(weight_decay=0.5, decay_table=table),
        schedule=c.ScheduleConfig(warmup="1 steps"),
    ).of(1, plan_of())
    batch = {
        "tokens": np.full((1, 8, 16), 5, np.int32),
        "targets": np.zeros((1, 8), np.int32),
        "weights": np.zeros((1, 8), np.float32),
    }
    seeds = jnp.array([3], jnp.uint32)
    with jax.set_mesh(mesh):
        state, metrics = programs.step(programs.init(encoder, seeds), batch, seeds, jnp.float32(1))
    rate = float(metrics.learning_rate)
    assert rate > 0.5
    for name, before in encoder.items():
        places = jax.tree_util.tree_leaves_with_path(before)
        for (path, old), new in zip(places, jax.tree.leaves(state.run.params[name]), strict=True):
            weights = jax.tree_util.keystr(path[-1:], simple=True) in ("kernel", "embedding")
            decays = weights or table == "fairseq"
            np.testing.assert_allclose(
                new[0], old * (1 - rate * 0.5 * decays), rtol=1e-6, err_msg=str(path)
            )


@pytest.mark.parametrize("kind", ["linear", "polynomial", "cosine", "inverse_sqrt"])
def test_the_peak_as_an_argument_gives_the_same_rates(kind):
    schedule = c.ScheduleConfig(kind=kind, warmup="6%", power=2.0)
    steps = jnp.arange(23)
    of_one = make_schedule(schedule, plan_of(num_steps=20).stretches)
    for peak in (1e-5, 2.7e-4, 0.3):
        rate = make_schedule(schedule, plan_of(peak, num_steps=20).stretches)
        found = jax.jit(lambda steps, peak: peak * of_one(steps))(steps, jnp.float32(peak))
        np.testing.assert_array_equal(found, jax.jit(rate)(steps))


@pytest.mark.slow
def test_a_sweep_compiles_the_step_of_a_shape_once(complete, tmp_path, monkeypatch):
    used = []

    def compile_step(program, *arguments):
        used.append((program, arguments[1]["tokens"].shape))
        return compile_once(program, *arguments)

    compile_once = trial_module.compile_step
    monkeypatch.setattr(trial_module, "compile_step", compile_step)
    config = finetune_config(
        write_sst2(tmp_path / "glue"),
        fit__learning_rates="1e-3,3e-3",
        fit__seeds_at_once=1,
        fit__epochs=1.0,
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    assert len({id(program) for program, _ in used}) == 1
    (result,) = read_results(tmp_path / "run")
    assert [len(trial.seeds) for trial in result.trials] == [2, 2]
    assert len(used) == 4 * len({shape for _, shape in used})
    # Each trial has its own rate, though the programs are the same.
    rates = {
        path.parent.name: [
            entry["learning_rate"]
            for entry in map(json.loads, path.read_text().splitlines())
            if entry["kind"] == "train"
        ]
        for path in (tmp_path / "run").glob("sst2/trials/*/metrics.jsonl")
    }
    for seed in (3, 4):
        low, high = (rates[f"rate{rate}-batch8-seed{seed}"] for rate in ("0.001", "0.003"))
        np.testing.assert_allclose(high, 3 * np.array(low), rtol=1e-6)
        assert 0 < max(low) <= 1e-3


def test_memory_that_runs_out_is_explained():
    message = r"3 seeds with 16 .* fit\.seeds_at_once=1"
    with pytest.raises(MachineError, match=message), explained_memory(3, 16):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 5 GB")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explained_memory(3, 16):
        raise jax.errors.JaxRuntimeError("INTERNAL: other")
