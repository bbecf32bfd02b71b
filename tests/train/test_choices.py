"""Whole runs with the choices of the recipes: phases, pairs, LAMB, divergence, microbatches."""

import dataclasses
import json
import math
import shutil
import signal

import jax
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import open_dataset
from roberta_jax.errors import INTERRUPTED, UserError
from roberta_jax.inference.evaluate import evaluate_model
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train import pretrain as pretrain_module
from roberta_jax.train.explain import explain
from roberta_jax.train.pretrain import pretrain
from roberta_jax.train.restore import load_run
from roberta_jax.train.workdir import read_config, write_config
from tests.train import runs


def interrupt():
    signal.raise_signal(signal.SIGINT)


def prepare_pairs(folder, tokenizer, sequence_length):
    (folder.parent / "pairs.txt").write_text(runs.make_text(seed=7))
    prepare(
        inputs=[str(folder.parent / "pairs.txt")],
        tokenizer_folder=tokenizer,
        output=folder,
        settings=PrepareSettings(
            format="segment_pair", sequence_length=sequence_length, validation_fraction=0.2
        ),
        say=lambda line: None,
    )
    return str(folder)


@pytest.fixture(scope="module")
def pairs(dataset, tmp_path_factory):
    """Datasets of segment pairs in rows of 16 and of 32 tokens."""
    folder = tmp_path_factory.mktemp("pairs")
    return [prepare_pairs(folder / f"{n}", dataset / "tokenizer", n) for n in (16, 32)]


def bert_config(pairs, **changes):
    """Google's BERT in small: two lengths, static masks, next sentences, token types."""
    short, long = pairs
    phases = (
        c.PhaseConfig(duration="60%", sequence_length=16, path=short, batch_size=32),
        c.PhaseConfig(duration="40%"),
    )
    settings = {
        "phases": phases,
        "train__duration": "20 steps",
        "masking__kind": "static",
        "encoder__next_sentence_head": True,
        "encoder__num_token_types": 2,
        "optimizer__kind": "lamb",
        "optimizer__moments_dtype": "bfloat16",
        "optimizer__average_decay": 0.9,
        "optimizer__clip_global_norm": 1.0,
        "schedule__kind": "polynomial",
        "schedule__power": 0.5,
    }
    return runs.tiny_config(long, **(settings | changes))


@pytest.fixture(scope="module")
def whole(pairs, programs, tmp_path_factory):
    """The workdir of BERT in small without a stop."""
    workdir = tmp_path_factory.mktemp("bert") / "run"
    assert pretrain(bert_config(pairs), workdir) == 0
    return workdir


@pytest.mark.slow
def test_one_run_goes_through_its_phases(pairs, whole):
    lines = runs.lines_of(whole)
    train = {line["step"]: line for line in lines if line["kind"] == "train"}
    assert sorted(train) == [3, 6, 9, 12, 15, 18, 20]
    assert train[12]["examples_seen"] == 12 * 32  # 60% of 20 steps.
    assert train[20]["examples_seen"] == 12 * 32 + 8 * 16
    _, record = runs.restored(whole, 20, bert_config(pairs))
    assert record["progress"]["rows_seen"] == {pairs[0]: 384, pairs[1]: 128}
    rates = [train[step]["learning_rate"] for step in sorted(train)]
    assert rates[1:] == sorted(rates[1:], reverse=True)  # One schedule over both.
    # Each phase is evaluated on the validation rows of its own length.
    predictions = {
        line["step"]: line["num_predictions"] for line in lines if line["kind"] == "eval"
    }
    assert predictions[5] == predictions[10] < predictions[15] == predictions[20]


@pytest.mark.slow
def test_next_sentences_are_reported(whole):
    for line in runs.lines_of(whole):
        if line["kind"] in ("train", "eval"):
            assert 0 <= line["next_sentence_accuracy"] <= 1
            assert 0.3 < line["next_sentence_loss_nats"] < 1.5  # log 2 is a guess.


@pytest.mark.slow
@pytest.mark.parametrize("stop", [7, 12, 15], ids=["first phase", "between", "second phase"])
def test_a_stop_in_any_phase_is_no_stop(pairs, whole, tmp_path, monkeypatch, stop):
    config, workdir = bert_config(pairs), tmp_path / "run"
    undo = runs.at_step(monkeypatch, stop, interrupt)
    assert pretrain(config, workdir) == INTERRUPTED
    undo()
    assert pretrain(config, workdir) == 0
    state, record = runs.restored(workdir, 20, config)
    wanted, wanted_record = runs.restored(whole, 20, config)
    runs.assert_same_state(state, wanted)
    assert record["progress"] == wanted_record["progress"]
    assert runs.lines_of(workdir) == runs.lines_of(whole)


@pytest.mark.slow
def test_moments_in_bfloat16_and_the_average_are_in_the_checkpoint(pairs, whole):
    state, _ = runs.restored(whole, 20, bert_config(pairs))
    moments = [leaf for path, leaf in state.items() if ".mu[" in path or ".nu[" in path]
    averages = [path for path in state if path.startswith(".average")]
    weights = [path for path in state if path.startswith(".params")]
    assert moments and all(leaf.dtype == "bfloat16" for leaf in moments)
    assert len(averages) == len(weights) == len(moments) / 2
    assert any("next_sentence_head" in path for path in weights)


@pytest.mark.slow
def test_what_is_evaluated_and_exported_is_the_average(pairs, whole):
    state, _ = runs.restored(whole, 20, bert_config(pairs))
    mesh = make_mesh(c.MeshConfig())
    _, params, step = load_run(whole, mesh)
    kernel = np.asarray(params["layers"]["mlp"]["up"]["kernel"])
    assert step == 20
    np.testing.assert_array_equal(kernel, state[".average['layers']['mlp']['up']['kernel']"])
    assert (kernel != state[".params['layers']['mlp']['up']['kernel']"]).any()
    # The command gives what the run recorded at its end.
    last = [line for line in runs.lines_of(whole) if line["kind"] == "eval"][-1]
    _, found = evaluate_model(whole, data=pairs[1], max_rows=16)
    assert found.loss_nats == pytest.approx(last["loss_nats"], rel=1e-5)
    assert found.next_sentence_accuracy == last["next_sentence_accuracy"]


@pytest.mark.slow
def test_phases_on_one_dataset_see_its_rows_once(dataset, tmp_path, monkeypatch):
    """A batch that grows: the rows of the second phase are those after the first's."""
    seen, original = [], pretrain_module.placed_ahead

    def watched(batches, mesh, *, ahead):
        for batch in original(batches, mesh, ahead=ahead):
            seen.append(np.asarray(batch["index"]))
            yield batch

    monkeypatch.setattr(pretrain_module, "placed_ahead", watched)
    phases = (
        c.PhaseConfig(duration="4 steps", batch_size=8),
        c.PhaseConfig(duration="3 steps", batch_size=16),
        c.PhaseConfig(duration="2 steps", batch_size=32, num_microbatches=2),
    )
    config = runs.tiny_config(dataset, phases=phases, train__duration="")
    assert pretrain(config, tmp_path / "run") == 0
    rows = np.concatenate(seen)
    assert [len(batch) for batch in seen] == [8] * 4 + [16] * 3 + [32] * 2
    assert len(rows) == len(set(rows.tolist())) == 144 <= len(open_dataset(dataset, "train"))


def test_a_spike_is_rolled_back_by_the_run_itself(dataset, tmp_path, monkeypatch, capsys):
    """Weights thrown away at step 13 are a spike at step 14; the run goes on from step 10."""
    original, thrown = pretrain_module.make_programs, []

    def make_programs(*arguments):
        programs = original(*arguments)

        def run(state, batch):
            if int(state.step) == 13 and not thrown:
                thrown.append(True)
                params = jax.tree.map(lambda leaf: leaf * 30, state.params)
                state = dataclasses.replace(state, params=params)
            return programs.steps[0](state, batch)

        return dataclasses.replace(programs, steps=(runs.Uncompiled(run),))

    monkeypatch.setattr(pretrain_module, "make_programs", make_programs)
    config = runs.tiny_config(
        dataset,
        divergence__max_rollbacks=1,
        divergence__spike_window_steps=16,
        divergence__spike_z_score=8.0,
        train__log_every_steps=4,
    )
    assert pretrain(config, tmp_path / "run") == 0
    (event,) = runs.events_of(tmp_path / "run")
    assert event[:2] == (11, "rolled_back")
    assert "the loss of step 14 is" in event[2]
    assert "back to step 10; the 64 rows since are left out" in event[2]
    assert event[2] in capsys.readouterr().out
    lines = runs.lines_of(tmp_path / "run")
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == [4, 8, 12, 16, 20]
    seen = [line["examples_seen"] for line in lines if line["kind"] == "train"]
    assert seen == [64, 128, 256, 320, 384]  # Four batches more than steps.
    assert lines[-1]["loss_nats"] < 6


@pytest.mark.slow
def test_updates_that_are_not_finite_are_left_out_and_the_run_goes_on(dataset, tmp_path, capsys):
    """A z-loss whose gradient overflows in every step; the weights stay what they were."""
    config = runs.tiny_config(
        dataset,
        optimizer__peak_learning_rate=1e38,
        schedule__warmup="1 steps",
        train__duration="6 steps",
    )
    assert pretrain(config, tmp_path / "run") == 0
    skipped = [step for step, event, _ in runs.events_of(tmp_path / "run") if event == "skipped"]
    assert skipped and "its update is left out" in capsys.readouterr().out
    state, record = runs.restored(tmp_path / "run", 6, config)
    assert record["progress"]["updates_skipped"] == len(skipped)
    assert all(np.isfinite(leaf).all() for leaf in state.values() if leaf.dtype == np.float32)
    last = [line for line in runs.lines_of(tmp_path / "run") if line["kind"] == "train"][-1]
    assert last["updates_skipped"] == len(skipped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder__next_sentence_head": True}, "has no pairs of segments: its format is full_sen"),
        (
            {"phases": (c.PhaseConfig(duration="50%"), c.PhaseConfig(duration="40%"))},
            "50% + 40%, add up to 90%",
        ),
        (
            {
                "phases": (
                    c.PhaseConfig(duration="50%", sequence_length=16),
                    c.PhaseConfig(duration="50%"),
                )
            },
            "Phases of 16 and of 32 tokens per row have the same dataset",
        ),
        (
            {"phases": (c.PhaseConfig(duration="100%", path="nowhere"),)},
            "nowhere is no prepared dataset",
        ),
        (
            {"phases": (c.PhaseConfig(duration="100%", batch_size=12),)},
            "cannot be split over 8 devices",
        ),
        (
            {"phases": (c.PhaseConfig(duration="100%", batch_size=24, num_microbatches=2),)},
            "A batch of 24 rows in 2 microbatches cannot be split over 8 devices",
        ),
        ({"optimizer__kind": "lamb", "optimizer__decay_table": "fairseq"}, "bert with optimizer."),
        ({"masking__num_slots": 3}, "config.masking.num_slots is 3; it must be 0, or from 5"),
        (
            {
                "train__num_microbatches": 2,
                "phases": (c.PhaseConfig(duration="100%", batch_size=15),),
            },
            "config.phases[0] has batches of 15 rows and 2 microbatches",
        ),
        ({"schedule__warmup": "20 steps"}, "20 of the 20 steps that the schedule has"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(
    dataset, tmp_path, monkeypatch, change, message
):
    def fail(*arguments):
        raise AssertionError("it was about to compile")

    monkeypatch.setattr(pretrain_module, "make_programs", fail)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        pretrain(runs.tiny_config(dataset, **change), tmp_path / "new")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_phases_of_unlike_datasets_are_refused(dataset, pairs, tmp_path):
    phases = (
        c.PhaseConfig(duration="50%", path=str(dataset)),
        c.PhaseConfig(duration="50%", path=pairs[1]),
    )
    config = runs.tiny_config(dataset, phases=phases)
    with pytest.raises(
        UserError, match="cannot be phases of one run: their format is full_sentences and"
    ):
        pretrain(config, tmp_path / "new")


@pytest.mark.slow
def test_whole_words_and_wide_rows_of_slots_can_be_trained(dataset, tmp_path):
    config = runs.tiny_config(
        dataset,
        masking__whole_words=True,
        masking__num_slots=8,
        objective__z_loss_weight=1e-4,
        encoder__activation_dropout_rate=0.1,
        train__duration="6 steps",
        train__num_microbatches=2,
    )
    assert pretrain(config, tmp_path / "run") == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["masking"]["whole_words"] is True
    last = [line for line in runs.lines_of(tmp_path / "run") if line["kind"] == "train"][-1]
    assert 4 < last["loss_nats"] < math.log(300) + 0.3
    assert "updates_skipped" not in last


@pytest.mark.slow
def test_a_run_whose_phases_change_goes_on_in_its_data(dataset, complete, tmp_path, capsys):
    """Fewer phases, more phases, a dataset at another place: no row is seen again or left out."""
    workdir, moved = runs.workdir_copy(complete, tmp_path / "run"), tmp_path / "moved"
    shutil.copytree(dataset, moved)
    phases = (c.PhaseConfig(duration="20 steps"), c.PhaseConfig(duration="3 steps", batch_size=8))
    config = runs.tiny_config(moved, phases=phases, train__duration="")
    assert pretrain(config, workdir) == 0
    assert "config.phases was 'none', is '20 steps + 3 steps'" in capsys.readouterr().out
    _, record = runs.restored(workdir, 23, config)
    assert record["progress"]["rows_seen"] == {str(moved): 20 * 16 + 3 * 8}
    config = runs.tiny_config(dataset, train__duration="25 steps")
    assert pretrain(config, workdir) == 0
    lines = [line for line in runs.lines_of(workdir) if line["kind"] == "train"]
    assert [line["examples_seen"] for line in lines][-2:] == [320 + 24 + 16, 320 + 24 + 32]


@pytest.mark.slow
def test_phases_that_all_name_their_dataset_need_no_other(pairs, whole, tmp_path):
    """`evaluate` and `--explain` take that of the last phase."""
    config = bert_config(pairs)
    config.data.path = ""
    config.phases[1].path = pairs[1]
    lines = list(explain(config))
    assert "vocabulary 300," in lines[0] and "passes over" in lines[2]
    workdir = runs.workdir_copy(whole, tmp_path / "run")
    write_config(workdir, dataclasses.replace(read_config(workdir), phases=config.phases))
    stored = read_config(workdir)
    stored.data.path = ""
    write_config(workdir, stored)
    step, found = evaluate_model(workdir, max_rows=16)
    assert step == 20 and found.num_predictions > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer__moments_dtype": "bfloat16"}, "config.optimizer.moments_dtype is bfloat16"),
        ({"optimizer__average_decay": 0.9}, "config.optimizer.average_decay is 0.9"),
    ],
)
def test_settings_that_change_the_arrays_of_a_checkpoint_are_refused(
    dataset, complete, change, message
):
    with pytest.raises(UserError) as caught:
        pretrain(runs.tiny_config(dataset, **change), complete)
    assert message in str(caught.value) and "--init_from=" in str(caught.value)
