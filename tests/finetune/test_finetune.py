"""Whole runs of fine-tuning: what they write, what a stop and a second run do."""

import dataclasses
import json
import signal

import jax
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.errors import INTERRUPTED, UserError
from roberta_jax.finetune import finetune as finetune_module
from roberta_jax.finetune import trial as trial_module
from roberta_jax.finetune.finetune import finetune
from roberta_jax.finetune.finetuned_model import load_task
from roberta_jax.finetune.model_folder import find_task_model, read_task_model
from roberta_jax.finetune.trial import TrialOutcome
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.glue import load_glue
from roberta_jax.tasks.results import CurvePoint, read_results, seed_result
from tests.finetune.tasks_on_disk import finetune_config, write_squad, write_sst2

TIMES = ("seconds", "examples_per_second")


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return write_sst2(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def finished(complete, glue, tmp_path_factory):
    """Two seeds for SST-2, without a stop; tests must not change it."""
    workdir = tmp_path_factory.mktemp("finetuned") / "run"
    assert finetune(finetune_config(glue), workdir, init_from=str(complete)) == 0
    return workdir


def lines_of(workdir):
    (path,) = workdir.glob("sst2/trials/*/metrics.jsonl")
    entries = map(json.loads, path.read_text().splitlines())
    return [
        {name: value for name, value in entry.items() if name not in TIMES}
        for entry in entries
        if "message" not in entry
    ]


def weights(workdir):
    model = read_task_model(find_task_model(workdir), make_mesh(c.MeshConfig()))
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.params)
    }


def test_a_run_leaves_results_a_model_and_predictions(finished):
    (result,) = read_results(finished)
    assert (result.name, len(result.trials), len(result.trials[0].seeds)) == ("sst2", 1, 2)
    for seed in result.trials[0].seeds:
        assert [point.step for point in seed.curve] == [6, 12]
        assert [point.epoch for point in seed.curve] == [1.0, 2.0]
        best = max(point.scores["dev"]["accuracy"] for point in seed.curve)
        assert seed.scores["dev"]["accuracy"] == best
    assert sum(map(sum, result.confusion)) == 24
    right = result.confusion[0][0] + result.confusion[1][1]
    assert right / 24 == result.median_seed().scores["dev"]["accuracy"]
    assert result.num_parameters == sum(leaf.size for leaf in weights(finished).values()) - (
        16 * (304 - 300)  # Rows that pad the vocabulary are no parameters.
    )
    table = (finished / "results.md").read_text()
    assert "| SST-2 | accuracy |" in table and "94.8" in table and "published" in table
    assert "<svg" in (finished / "report.html").read_text()
    prediction = (finished / "sst2" / "predictions" / "SST-2.tsv").read_text().splitlines()
    assert prediction[0] == "index\tprediction" and len(prediction) == 11
    assert not list(finished.glob("sst2/trials/*/checkpoints"))


def test_the_model_that_stays_is_that_of_the_best_seed_at_its_best_evaluation(finished, glue):
    (result,) = read_results(finished)
    model = read_task_model(find_task_model(finished), make_mesh(c.MeshConfig()))
    reached = {seed.seed: seed.scores["dev"]["accuracy"] for seed in result.trials[0].seeds}
    best = max(reached.values())
    assert reached[model.training["seed"]] == model.scores["dev"]["accuracy"] == best
    # Another seed, or the last evaluation, would not do.
    last = [seed.curve[-1].scores["dev"]["accuracy"] for seed in result.trials[0].seeds]
    assert best > min(reached.values()) and best > max(last)
    # The weights reach it, too.
    examples = load_glue(find_task("sst2"), str(glue)).splits["dev"]
    said = load_task(finished).predictions(examples)
    assert np.mean(said.values == np.array([each.label for each in examples])) == best


def test_a_second_run_finds_everything_done(finished, complete, glue, monkeypatch, capsys):
    before = (finished / "results.json").read_text()
    monkeypatch.setattr(trial_module, "run_loop", None)  # It would be called in vain.
    assert finetune(finetune_config(glue), finished, init_from=str(complete)) == 0
    assert "done before" in capsys.readouterr().out
    assert (finished / "results.json").read_text() == before


@pytest.mark.parametrize(
    "step", [pytest.param(2, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow), 9]
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    finished, complete, glue, tmp_path, monkeypatch, step
):
    config, workdir = finetune_config(glue), tmp_path / "run"
    compile_step = trial_module.compile_step
    steps = [0]

    def interrupted(program, *arrays):
        compiled = compile_step(program, *arrays)

        def run(state, batch):
            steps[0] += 1
            if steps[0] == step:
                signal.raise_signal(signal.SIGINT)
            return compiled.run(state, batch)

        return dataclasses.replace(compiled, run=run)

    with monkeypatch.context() as context:
        context.setattr(trial_module, "compile_step", interrupted)
        assert finetune(config, workdir, init_from=str(complete)) == INTERRUPTED
    assert finetune(config, workdir, init_from=str(complete)) == 0
    assert lines_of(workdir) == lines_of(finished)
    (again,), (once,) = read_results(workdir), read_results(finished)
    assert again.trials == once.trials and again.confusion == once.confusion
    for name, leaf in weights(finished).items():
        np.testing.assert_array_equal(weights(workdir)[name], leaf, err_msg=name)


@pytest.mark.slow
def test_seeds_side_by_side_are_the_seeds_alone(finished, complete, glue, tmp_path):
    config = finetune_config(glue, fit__seeds_at_once=1)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (alone,), (together,) = read_results(tmp_path / "run"), read_results(finished)
    assert len(list((tmp_path / "run" / "sst2" / "trials").iterdir())) == 2
    for left, right in zip(alone.trials[0].seeds, together.trials[0].seeds, strict=True):
        assert (left.seed, left.scores, left.best_step) == (
            right.seed,
            right.scores,
            right.best_step,
        )


def test_other_settings_in_the_same_place_are_refused_by_name(finished, complete, glue):
    with pytest.raises(UserError, match=r"fit\.epochs \(2\.0, now 3\.0\)"):
        finetune(finetune_config(glue, fit__epochs=3.0), finished, init_from=str(complete))
    with pytest.raises(UserError, match=r"--resume=never"):
        finetune(finetune_config(glue), finished, init_from=str(complete), resume="never")


def outcome(run, trial, folder, accuracies):
    """What a trial whose seeds reach these accuracies leaves behind."""
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "from.txt").write_text(folder.name)
    seeds = []
    for seed, accuracy in zip(trial.seeds, accuracies, strict=True):
        point = CurvePoint(step=6, epoch=1.0, scores={"dev": {"accuracy": accuracy}})
        seeds.append(seed_result(run.task, seed, [point]))
    confusions = tuple([[seed, 0], [0, 0]] for seed in trial.seeds)
    return TrialOutcome(trial, tuple(seeds), confusions, folder / "best")


def test_a_sweep_keeps_the_best_median_and_its_best_seed(complete, glue, tmp_path, monkeypatch):
    reached = {
        (1e-5, 8): [0.1, 0.2, 0.9],  # The best seed of all, and not the best median.
        (1e-5, 16): [0.2, 0.2, 0.2],
        (3e-5, 8): [0.5, 0.3, 0.6],
        (3e-5, 16): [0.4, 0.4, 0.4],
    }

    def run_trial(run, trial, folder, console):
        accuracies = reached[trial.learning_rate, trial.batch_size]
        return outcome(run, trial, folder, [accuracies[seed - 3] for seed in trial.seeds])

    monkeypatch.setattr(finetune_module, "run_trial", run_trial)
    monkeypatch.setattr(finetune_module, "predict_splits", lambda *arguments: [])
    config = finetune_config(
        glue, num_seeds=3, fit__learning_rates="1e-5,3e-5", fit__batch_sizes="8,16"
    )
    for at_once, place in ((0, "rate3e-05-batch8-seeds3-5"), (1, "rate3e-05-batch8-seed5")):
        config.fit.seeds_at_once = at_once
        workdir = tmp_path / str(at_once)
        assert finetune(config, workdir, init_from=str(complete)) == 0
        (result,) = read_results(workdir)
        assert {
            (trial.learning_rate, trial.batch_size): trial.values("dev", "accuracy")
            for trial in result.trials
        } == reached
        best = result.best_trial()
        assert (best.learning_rate, best.batch_size) == (3e-5, 8)
        assert (workdir / "sst2" / "model" / "from.txt").read_text() == place
        assert result.confusion == ((3, 0), (0, 0))  # Of the median seed.


@pytest.mark.slow
def test_it_learns_what_can_be_learned(complete, tmp_path):
    data = write_sst2(tmp_path / "glue", num_train=320, test=False)
    config = finetune_config(
        data, fit__epochs=6.0, num_seeds=1, model__dropout_rate=0.0, fit__learning_rates="1e-2"
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert result.figures()["dev"]["accuracy"].median >= 0.9


def test_squad_with_its_classifier_runs_through(complete, tmp_path):
    data = write_squad(tmp_path / "squad")
    config = finetune_config(
        data,
        task="squad2",
        num_seeds=1,
        data__max_length=32,
        data__max_question_tokens=16,
        data__window_stride=4,
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert set(result.figures()["dev"]) == {"f1", "exact_match"}
    model = read_task_model(find_task_model(tmp_path / "run"), make_mesh(c.MeshConfig()))
    assert "answerable_head" in model.params and model.no_answer_threshold is not None


def test_a_fine_tuned_encoder_begins_another_task(finished, complete, glue, tmp_path):
    config = finetune_config(glue, num_seeds=1, fit__epochs=1.0, optimizer__peak_learning_rate=1e-9)
    assert finetune(config, tmp_path / "run", init_from=str(finished)) == 0
    before, after = weights(finished), weights(tmp_path / "run")
    for name, leaf in before.items():
        if "head" not in name:
            np.testing.assert_allclose(after[name], leaf, atol=1e-6, err_msg=name)
    assert not np.allclose(after["['head']['projection']['kernel']"], 0)
    assert not np.array_equal(
        after["['head']['projection']['kernel']"], before["['head']['projection']['kernel']"]
    )


def test_random_weights_take_the_shape_only(complete, glue, tmp_path):
    config = finetune_config(
        glue,
        num_seeds=1,
        fit__epochs=1.0,
        model__random_weights=True,
        optimizer__peak_learning_rate=1e-9,
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert result.init_from == ""
    table = weights(tmp_path / "run")["['embedding']['token']['embedding']"]
    assert abs(table[2:300].std() - 0.02) < 2e-3  # As drawn.


def test_a_share_of_the_training_rows(complete, glue, tmp_path):
    config = finetune_config(glue, num_seeds=1, data__train_share=0.25, fit__epochs=1.0)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert result.trials[0].num_train == 12
    assert any("12 examples, 25.0%" in note for note in result.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sst3"}, "'sst3' is no published task"),
        ({"data__path": ""}, "--data is missing"),
        ({"data__max_length": 64}, "this model takes at most 32 tokens"),
        ({"fit__batch_size": 12}, "cannot be split over 8 devices"),
        ({"fit__learning_rates": "1e-5;2e-5"}, "numbers with commas between them"),
        ({"schedule__warmup": "100 tokens"}, "in %, steps or epochs"),
        ({"mesh__fsdp": 2}, "fine-tuning splits the rows of a batch only"),
        ({"optimizer__average_decay": 0.9}, "the best evaluation decides"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    complete, glue, tmp_path, changes, message
):
    config = finetune_config(glue, **changes)
    with pytest.raises(UserError, match=message):
        finetune(config, tmp_path / "run", init_from=str(complete))
    assert not (tmp_path / "run").exists()
