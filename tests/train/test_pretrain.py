"""Whole runs: the central promise is that stop + resume equals no stop, bit for bit."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.data.loader import Loader
from roberta_jax.data.records import open_dataset
from roberta_jax.errors import MachineError, UserError
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import abstract
from roberta_jax.train import loop
from roberta_jax.train import pretrain as module
from roberta_jax.train.pretrain import pretrain, resolve
from roberta_jax.train.step import compile_step
from tests.train.runs import lines_of, make_dataset, tiny_config


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole_run(dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert pretrain(tiny_config(dataset), workdir) == 0
    return workdir


def restored(workdir, config, step):
    """The checkpoint of a step on the whole mesh, as NumPy."""
    config = resolve(config, open_dataset(config.data.path, "train"))
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh), CheckpointStore(workdir / "checkpoints") as store:
        masker = module.make_masker(config, open_dataset(config.data.path, "train").tokenizer())
        target = abstract(compile_step(config, masker, mesh)[2], mesh)
        found = store.restore(step, target)
    return jax.tree.map(np.asarray, found.state), found.record


def assert_same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def interrupt_at(monkeypatch, step):
    """Sends this process a real SIGINT while a step is under way."""
    original = module.run_loop

    def run_loop(config, state, progress, hooks, **others):
        def stepping(state, batch):
            if progress.step + 1 == step:
                os.kill(os.getpid(), signal.SIGINT)
            return hooks.step(state, batch)

        changed = loop.Hooks(stepping, hooks.batches, hooks.evaluate, hooks.record)
        return original(config, state, progress, changed, **others)

    monkeypatch.setattr(module, "run_loop", run_loop)


@pytest.mark.parametrize("stop", [7, 15])
def test_stop_and_resume_equals_no_stop_bit_for_bit(
    dataset, whole_run, tmp_path, monkeypatch, capsys, stop
):
    config = tiny_config(dataset)
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        assert pretrain(config, tmp_path / "run") == 130
    assert f"step {stop} is saved" in capsys.readouterr().out
    assert pretrain(tiny_config(dataset), tmp_path / "run", resume="must") == 0
    assert f"going on from step {stop}" in capsys.readouterr().out

    state, record = restored(tmp_path / "run", config, 20)
    expected, expected_record = restored(whole_run, config, 20)
    assert_same_bits(state, expected)  # Step, parameters, both moments, counts.
    assert record["examples_seen"] == expected_record["examples_seen"] == 20 * 16
    assert lines_of(tmp_path / "run") == lines_of(whole_run)
    rows = open_dataset(dataset, "train")
    loaders = [Loader(rows, batch_size=16, seed=config.seed) for _ in range(2)]
    batches = [
        next(loader.batches(seen))
        for loader, seen in zip(
            loaders, (record["examples_seen"], expected_record["examples_seen"]), strict=True
        )
    ]
    np.testing.assert_array_equal(batches[0].tokens, batches[1].tokens)


def test_a_killed_run_goes_on_from_its_last_checkpoint(dataset, whole_run, tmp_path, monkeypatch):
    config = tiny_config(dataset)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 10)
        pretrain(config, tmp_path / "run")
    # What a kill -9 after step 12 leaves: lines that no checkpoint covers, the last one cut off,
    # and a checkpoint without its commit marker.
    metrics = tmp_path / "run" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write(json.dumps({"step": 12, "kind": "train", "examples_seen": 192}) + "\n")
        file.write('{"step": 15, "ki')
    (tmp_path / "run" / "checkpoints" / "12").mkdir()
    assert pretrain(tiny_config(dataset), tmp_path / "run") == 0
    assert lines_of(tmp_path / "run") == lines_of(whole_run)
    assert_same_bits(restored(tmp_path / "run", config, 20)[0], restored(whole_run, config, 20)[0])


def test_a_complete_run_has_nothing_to_do(dataset, whole_run, capsys):
    before = lines_of(whole_run)
    assert pretrain(tiny_config(dataset), whole_run) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert lines_of(whole_run) == before


def test_lines_of_the_record_are_complete(whole_run):
    lines = lines_of(whole_run)
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == [3, 6, 9, 12, 15, 18, 20]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [5, 10, 15, 20]
    assert lines[0]["event"] == "unigram_entropy"
    assert lines[0]["nats"] > 2
    last = lines[-1]
    assert {"loss_nats", "perplexity", "masked_accuracy", "examples_seen"} <= set(last)
    np.testing.assert_allclose(last["perplexity"], np.exp(last["loss_nats"]))
    assert list((whole_run / "tensorboard").iterdir())


def test_a_restart_from_an_earlier_step_sets_later_ones_aside(
    dataset, whole_run, tmp_path, monkeypatch, capsys
):
    config = tiny_config(dataset)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 12)
        pretrain(config, tmp_path / "run")
    with pytest.raises(UserError, match=r"no such checkpoint. It has: \[5, 10, 12\]"):
        pretrain(config, tmp_path / "run", resume="7")
    assert pretrain(tiny_config(dataset), tmp_path / "run", resume="5") == 0
    assert "12.superseded" in capsys.readouterr().out
    assert (tmp_path / "run" / "checkpoints" / "10.superseded").is_dir()
    assert lines_of(tmp_path / "run") == lines_of(whole_run)


def damage(step_folder):
    """Flips a few bits of every file that holds array data."""
    for path in (step_folder / "state").glob("**/d/*"):
        data = bytearray(path.read_bytes())
        for place in range(len(data) // 5, len(data), 4_999):
            data[place] ^= 0x10
        path.write_bytes(data)


def test_a_damaged_checkpoint_is_set_aside_and_never_taken_for_a_fresh_start(
    dataset, whole_run, tmp_path, monkeypatch, capsys
):
    config = tiny_config(dataset)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 12)
        pretrain(config, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    damage(checkpoints / "12")
    assert pretrain(tiny_config(dataset), tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "12.damaged" in said
    assert "going on from step 10" in said
    assert lines_of(tmp_path / "run") == lines_of(whole_run)

    for step in (5, 10, 15, 20):
        damage(checkpoints / str(step))
    with pytest.raises(UserError, match="not a fresh start"):
        pretrain(tiny_config(dataset), tmp_path / "run")


def test_the_same_run_on_one_device_and_with_microbatches_has_the_same_losses(
    dataset, whole_run, tmp_path, monkeypatch
):
    config = tiny_config(dataset, train__num_microbatches=2)
    pretrain(config, tmp_path / "parts")
    one = jax.make_mesh(
        (1, 1, 1),
        ("data", "fsdp", "tensor"),
        devices=jax.devices()[:1],
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
    )
    monkeypatch.setattr(module, "make_mesh", lambda config: one)
    pretrain(tiny_config(dataset), tmp_path / "single")
    for workdir in (tmp_path / "parts", tmp_path / "single"):
        for line, expected in zip(lines_of(workdir), lines_of(whole_run), strict=True):
            assert line["step"] == expected["step"]
            if "loss_nats" in line:
                np.testing.assert_allclose(line["loss_nats"], expected["loss_nats"], rtol=1e-4)
                assert line["masked_accuracy"] == pytest.approx(
                    expected["masked_accuracy"], abs=0.02
                )


def test_weights_of_another_run_begin_a_new_one(dataset, whole_run, tmp_path, capsys):
    config = tiny_config(dataset, train__num_steps=1, optimizer__warmup_steps=0)
    config.optimizer.peak_learning_rate = 1e-12
    assert pretrain(config, tmp_path / "new", init_from=str(whole_run)) == 0
    assert "starting from the weights" in capsys.readouterr().out
    new, _ = restored(tmp_path / "new", config, 1)
    old, _ = restored(whole_run, tiny_config(dataset), 20)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), new.params, old.params)
    assert int(new.step) == 1
    with pytest.raises(UserError, match="already has checkpoints"):
        pretrain(config, whole_run, init_from=str(tmp_path / "new"))
    wider = tiny_config(dataset, encoder__hidden_size=32)
    with pytest.raises(UserError, match="another model: encoder.hidden_size is 16 there and 32"):
        pretrain(wider, tmp_path / "third", init_from=str(whole_run))


def test_changed_settings_are_said_on_resume(dataset, whole_run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        pretrain(tiny_config(dataset), tmp_path / "run")
    config = tiny_config(dataset, optimizer__peak_learning_rate=2e-3, train__num_steps=6)
    assert pretrain(config, tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "config.optimizer.peak_learning_rate was 0.001, is 0.002" in said
    assert "config.seed" not in said


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"data__path": ""}, {}, "config.data.path is empty"),
        ({"data__path": "nowhere"}, {}, "no prepared dataset"),
        ({"data__sequence_length": 16}, {}, "rows of 32 tokens, and config.data.sequence_length"),
        ({"data__tokenizer_fingerprint": "0123"}, {}, "asks for 0123"),
        ({"encoder__vocab_size": 301}, {}, "tokenizer of 300 entries"),
        ({"train__batch_size": 12}, {}, "cannot be split over 8 devices"),
        ({"mesh__data": 3}, {}, "does not fill the 8 visible devices"),
        ({"optimizer__warmup_steps": 20}, {}, "less than train.num_steps=20"),
        ({}, {"resume": "perhaps"}, "--resume=perhaps is not understood"),
        ({}, {"resume": "must"}, "no checkpoint"),
        ({}, {"resume": "4"}, "no such checkpoint"),
        ({}, {"init_from": "nowhere"}, "is not a workdir"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    dataset, tmp_path, changes, options, message
):
    config = tiny_config(dataset, **changes)
    with pytest.raises(UserError, match=message) as raised:
        pretrain(config, tmp_path / "run", **options)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_workdir_with_checkpoints_is_not_begun_again(dataset, whole_run):
    with pytest.raises(UserError, match="already has checkpoints"):
        pretrain(tiny_config(dataset), whole_run, resume="never")
    with pytest.raises(UserError, match="another model: encoder.num_layers is 2 there and 3"):
        pretrain(tiny_config(dataset, encoder__num_layers=3), whole_run)


def test_a_diverged_run_ends_and_says_what_to_do(dataset, tmp_path):
    config = tiny_config(dataset, optimizer__peak_learning_rate=1e30, optimizer__warmup_steps=0)
    with pytest.raises(MachineError, match="diverged.*clip_global_norm"):
        pretrain(config, tmp_path / "run")
    assert lines_of(tmp_path / "run")[-1]["loss_nats"] is None
