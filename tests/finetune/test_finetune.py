"""Whole runs of fine-tuning: what they write, what a stop and a second run do."""

import dataclasses
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.errors import INTERRUPTED, UserError
from roberta_jax.finetune import evaluate
from roberta_jax.finetune import finetune as finetune_module
from roberta_jax.finetune import trial as trial_module
from roberta_jax.finetune.conclusion import say_result
from roberta_jax.finetune.finetune import finetune
from roberta_jax.finetune.finetuned_model import load_task
from roberta_jax.finetune.model_folder import RowLimits, find_task_model, read_task_model
from roberta_jax.finetune.predict import SplitPredictions, predict_splits
from roberta_jax.finetune.rows import SplitRows
from roberta_jax.finetune.task_run import Trial, TrialOutcome
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.examples import TextExample
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.glue import load_glue
from roberta_jax.tasks.results import CurvePoint, read_results, seed_result
from roberta_jax.tasks.results_table import lines_of_test_splits
from roberta_jax.train.console import RunConsole
from tests.finetune.models import write_model
from tests.finetune.tasks_on_disk import (
    finetune_config,
    write_race,
    write_rte,
    write_squad,
    write_sst2,
)
from tests.tasks.runs import make_result

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


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, 1e-12])
def test_the_figures_are_those_of_the_weights_that_stay(
    complete, glue, tmp_path, monkeypatch, gain
):
    judged = []

    def evaluate_seeds(task, splits, params, predict):
        evaluation, predictions = evaluate.evaluate_seeds(task, splits, params, predict)
        judged.append(np.asarray(params["head"]["projection"]["kernel"][0]))
        # Too little for float32.
        scores = [{"dev": {"accuracy": 0.5 + gain * len(judged)}}]
        return dataclasses.replace(evaluation, scores=scores), predictions

    monkeypatch.setattr(trial_module, "evaluate_seeds", evaluate_seeds)
    config = finetune_config(glue, num_seeds=1)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    # Of equal ones the first counts.
    best = 1 if gain else 0
    assert result.trials[0].seeds[0].best_step == (6, 12)[best]
    kept = weights(tmp_path / "run")["['head']['projection']['kernel']"]
    np.testing.assert_array_equal(kept, judged[best])
    assert not np.array_equal(judged[0], judged[1])


def test_a_second_run_finds_everything_done(finished, complete, glue, monkeypatch, capsys):
    before = (finished / "results.json").read_text()
    monkeypatch.setattr(trial_module, "run_loop", None)  # It would be called in vain.
    assert finetune(finetune_config(glue), finished, init_from=str(complete)) == 0
    assert "done before" in capsys.readouterr().out
    assert (finished / "results.json").read_text() == before


class Killed(BaseException):
    """Nothing is saved because of it."""


def kill():
    raise Killed


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("step", "stop"),
    [
        pytest.param(2, interrupt, marks=pytest.mark.slow),
        pytest.param(6, interrupt, marks=pytest.mark.slow),
        pytest.param(9, interrupt, marks=pytest.mark.slow),
        # After a checkpoint between two evaluations.
        (11, kill),
        # After an evaluation that no checkpoint has.
        pytest.param(8, kill, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    finished, complete, glue, tmp_path, monkeypatch, capsys, step, stop
):
    config = finetune_config(glue, fit__save_every_steps=4)
    workdir = tmp_path / "run"
    compile_step = trial_module.compile_step
    steps = [0]

    def stopped(program, *arrays):
        compiled = compile_step(program, *arrays)

        def run(state, batch):
            steps[0] += 1
            if steps[0] == step:
                stop()
            return compiled.run(state, batch)

        return dataclasses.replace(compiled, run=run)

    with monkeypatch.context() as context:
        context.setattr(trial_module, "compile_step", stopped)
        if stop is kill:
            with pytest.raises(Killed):
                finetune(config, workdir, init_from=str(complete))
        else:
            assert finetune(config, workdir, init_from=str(complete)) == INTERRUPTED
    assert finetune(config, workdir, init_from=str(complete)) == 0
    begun = (step - 1) // 4 * 4 if stop is kill else step
    assert f"goes on from step {begun} of 12" in capsys.readouterr().out
    assert lines_of(workdir) == lines_of(finished)
    (again,), (once,) = read_results(workdir), read_results(finished)
    assert again.trials == once.trials and again.confusion == once.confusion
    for name, leaf in weights(finished).items():
        np.testing.assert_array_equal(weights(workdir)[name], leaf, err_msg=name)


def test_a_short_run_writes_one_checkpoint(complete, glue, tmp_path, monkeypatch):
    saved = []
    save = CheckpointStore.save

    def saving(store, step, *arguments):
        saved.append(step)
        return save(store, step, *arguments)

    monkeypatch.setattr(CheckpointStore, "save", saving)
    config = finetune_config(glue, num_seeds=1, fit__evaluations_per_epoch=3)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    assert saved == [12, 0]  # The second one is the model that stays.


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


def test_the_workdir_of_a_pretraining_run_is_refused(complete, glue):
    before = sorted(complete.rglob("*"))
    with pytest.raises(UserError, match=r"is the workdir of a pretraining run.* --workdir=.*/"):
        finetune(finetune_config(glue), complete, init_from=str(complete))
    assert sorted(complete.rglob("*")) == before


def test_other_settings_in_the_same_place_are_refused_by_name(finished, complete, glue):
    with pytest.raises(UserError, match=r"fit\.epochs \(2\.0, now 3\.0\)"):
        finetune(finetune_config(glue, fit__epochs=3.0), finished, init_from=str(complete))
    with pytest.raises(UserError, match=r"--resume=never"):
        finetune(finetune_config(glue), finished, init_from=str(complete), resume="never")


@pytest.mark.slow
def test_a_rate_that_diverges_is_told_and_does_not_end_the_sweep(complete, glue, tmp_path, capsys):
    config = finetune_config(glue, fit__learning_rates="1e30,3e-3", fit__epochs=3.0)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    diverged, best = result.trials
    assert result.best_trial() == best and best.learning_rate == 3e-3
    # The weights of an evaluation before it diverged would count; there is none here.
    assert diverged.values("dev", "accuracy") == [0, 0]
    assert min(best.values("dev", "accuracy")) > 0.3
    told = [f"seed {seed} at rate 1e+30, batch 8" for seed in (3, 4)]
    said = capsys.readouterr().out
    notes = [note for note in result.notes if "updates were left out" in note]
    for text, note in zip(told, notes, strict=True):
        assert note.startswith(f"{text}: 17 of 18 updates were left out")
        assert f"{text}: 5 of 6 updates were left out" in said
    folder = tmp_path / "run" / "sst2" / "trials" / "rate1e+30-batch8-seeds3-4"
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    left_out = [line["updates_left_out"] for line in lines if line["kind"] == "eval"]
    assert left_out == [[5, 5], [11, 11], [17, 17]]
    # Found complete, it says the same.
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    assert read_results(tmp_path / "run") == (result,)


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
    monkeypatch.setattr(
        finetune_module, "predict_splits", lambda *arguments: SplitPredictions((), {}, ())
    )
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


def test_a_second_run_with_another_rate_counts_the_trials_of_the_first(
    finished, complete, glue, tmp_path, monkeypatch, capsys
):
    workdir = shutil.copytree(finished, tmp_path / "run")
    before = weights(finished)
    (first,) = read_results(finished)
    monkeypatch.setattr(
        finetune_module,
        "run_trial",
        lambda run, trial, folder, console: outcome(run, trial, folder, [0.0] * 2),
    )
    config = finetune_config(glue, fit__learning_rates="7e-7")
    assert finetune(config, workdir, init_from=str(complete)) == 0
    name = Trial(first.trials[0].learning_rate, first.trials[0].batch_size, (3, 4)).name
    assert f"trials of before count as well: {name}" in capsys.readouterr().out
    (result,) = read_results(workdir)
    assert [trial.learning_rate for trial in result.trials] == [
        7e-7,
        first.best_trial().learning_rate,
    ]
    assert result.best_trial() == first.best_trial() and result.confusion == first.confusion
    for path, leaf in weights(workdir).items():
        np.testing.assert_array_equal(leaf, before[path])


@pytest.mark.parametrize(
    ("confusions", "words"),
    [
        ([[[12, 0], [12, 0]]] * 3, "one class is predicted for all rows of dev: nothing was"),
        ([[[12, 0], [12, 0]], [[0, 12], [0, 12]], [[9, 3], [3, 9]]], "is predicted by 2 of 3 seed"),
        ([[[11, 1], [12, 0]]] * 3, ""),
        ([[[24, 0], [0, 0]]] * 3, ""),  # There is one class only.
    ],
)
def test_a_trial_that_learned_nothing_is_told(
    complete, glue, tmp_path, monkeypatch, capsys, confusions, words
):
    def run_trial(run, trial, folder, console):
        found = outcome(run, trial, folder, [0.5] * 3)
        return dataclasses.replace(found, confusions=tuple(confusions))

    monkeypatch.setattr(finetune_module, "run_trial", run_trial)
    config = finetune_config(write_sst2(tmp_path / "glue", test=False), num_seeds=3)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert [words in note for note in result.notes] == [True] * bool(words)
    for text in (capsys.readouterr().out, (tmp_path / "run" / "results.md").read_text()):
        assert text.count("nothing was learned; try other --learning") == bool(words)


@pytest.mark.parametrize(
    ("max_length", "words"),
    [(8, "of train and dev are not read to their end: raise --max_length"), (32, "")],
)
def test_texts_that_are_mostly_cut_are_told(
    complete, tmp_path, monkeypatch, capsys, max_length, words
):
    monkeypatch.setattr(
        finetune_module,
        "run_trial",
        lambda run, trial, folder, console: outcome(run, trial, folder, [0.5]),
    )
    glue = write_sst2(tmp_path / "glue", test=False)
    config = finetune_config(glue, num_seeds=1, data__max_length=max_length)
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    found = [note for note in result.notes if "not read to their end" in note]
    assert [words in note for note in found] == [True] * bool(words)
    for text in (capsys.readouterr().out, (tmp_path / "run" / "results.md").read_text()):
        assert text.count("not read to their end") == bool(words)


def test_half_of_the_rows_are_not_most_of_them_and_windows_are_read_whole():
    def told(num_cut, kind="sst2", longest=64, group_size=1):
        ids = [np.zeros(3, np.int32)] * 4 * group_size
        splits = [
            SplitRows(
                name,
                [None] * 4,
                TaskRows(ids, np.zeros(4), None, group_size=group_size, num_cut=count),
            )
            for name, count in (("train", num_cut), ("dev", 0))
        ]
        limits = RowLimits(
            max_length=32, window_stride=8, max_question_tokens=8, max_option_tokens=8
        )
        return finetune_module._mostly_cut(find_task(kind), splits, limits, longest)

    assert told(2) == () == told(4, "squad1")
    # Of four questions with four options each, options are counted.
    assert told(8, "race", group_size=4) == () != told(9, "race", group_size=4)
    (note,) = told(3)
    assert note.startswith("most texts of train are") and "takes up to 64 tokens" in note
    (note,) = told(3, longest=32)
    assert "--max_length" not in note and "this model takes no longer rows" in note


def test_test_rows_that_are_cut_are_told(tmp_path):
    write_model(tmp_path / "model")
    mesh = make_mesh(c.MeshConfig())
    examples = [TextExample(str(n), ("the river " * n,), None) for n in (1, 50, 90)]
    with jax.set_mesh(mesh):
        found = predict_splits(tmp_path / "model", {"test": examples}, tmp_path / "out", mesh)
        nothing = predict_splits(tmp_path / "model", {}, tmp_path / "out", mesh)
    (note,) = found.notes
    assert note.startswith("test: 2 of 3 texts ") and note.endswith("; they were cut")
    assert [path.exists() for path in found.files] == [True] and found.scores == {}
    assert nothing == SplitPredictions((), {}, ())


def test_the_last_line_says_of_which_evaluation_the_figure_is(capsys):
    with RunConsole() as console:
        say_result(make_result("sst2", [0.9, 0.8, 0.85]), console)
        say_result(make_result("sst2", [0.9]), console)
    assert capsys.readouterr().out.splitlines() == [
        "SST-2 dev: accuracy 85.0 (80.0 to 90.0), median of 3 seeds, each at its best evaluation; "
        "rate 1e-05, batch 16",
        "SST-2 dev: accuracy 90.0, at the best evaluation; rate 1e-05, batch 16",
    ]


@pytest.mark.slow
def test_it_learns_what_can_be_learned(complete, tmp_path):
    data = write_sst2(tmp_path / "glue", num_train=320, test=False)
    config = finetune_config(
        data, fit__epochs=6.0, num_seeds=1, model__dropout_rate=0.0, fit__learning_rates="1e-2"
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert result.figures()["dev"]["accuracy"].median >= 0.9


@pytest.mark.slow
def test_squad_with_its_classifier_runs_through(complete, tmp_path):
    data = write_squad(tmp_path / "squad")
    config = finetune_config(
        data,
        task="squad2",
        num_seeds=1,
        data__max_length=32,
        data__max_question_tokens=3,
        data__window_stride=4,
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    (result,) = read_results(tmp_path / "run")
    assert set(result.figures()["dev"]) == {"f1", "exact_match"}
    assert [note.partition(" too long")[0] for note in result.notes] == [
        "train: 8 of 8 questions are",
        "dev: 8 of 8 questions are",
    ]
    table = (tmp_path / "run" / "results.md").read_text()
    assert "chosen on the dev split that is scored" in table
    model = read_task_model(find_task_model(tmp_path / "run"), make_mesh(c.MeshConfig()))
    assert "answerable_head" in model.params and model.no_answer_threshold is not None


@pytest.mark.slow
def test_the_answers_of_a_test_split_score_the_model_that_is_kept(complete, tmp_path, capsys):
    data = write_race(tmp_path / "race")
    config = finetune_config(
        data, task="race", num_seeds=1, fit__epochs=1.0, data__max_option_tokens=12
    )
    assert finetune(config, tmp_path / "run", init_from=str(complete)) == 0
    letters = json.loads((tmp_path / "run" / "race" / "predictions" / "race-test.json").read_text())
    right = {
        group: [letters[f"{group}{n}.txt-0"] == "ABCD"[n % 4] for n in range(count)]
        for group, count in (("middle", 9), ("high", 5))
    }
    (result,) = read_results(tmp_path / "run")
    assert result.test_scores["test"] == pytest.approx(
        {
            "accuracy": sum(right["middle"] + right["high"]) / 14,
            "middle_accuracy": sum(right["middle"]) / 9,
            "high_accuracy": sum(right["high"]) / 5,
        }
    )
    assert set(result.figures()) == {"dev"}
    (line,) = lines_of_test_splits(result)
    assert line in capsys.readouterr().out
    assert "RACE, test (not used for any choice)" in (tmp_path / "run" / "results.md").read_text()
    assert "RACE, test (not used for any choice)" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
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


def test_a_task_that_does_not_begin_with_mnli_s_model_says_so(
    finished, complete, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        finetune_module, "predict_splits", lambda *arguments: SplitPredictions((), {}, ())
    )
    monkeypatch.setattr(
        finetune_module,
        "run_trial",
        lambda run, trial, folder, console: outcome(run, trial, folder, [0.5]),
    )
    mnli = tmp_path / "mnli"
    mnli_of_two = dataclasses.replace(find_task("mnli"), labels=("x", "entailment"))
    write_model(mnli / "mnli" / "model", "pairs", task=mnli_of_two)
    data = write_rte(tmp_path / "glue")
    words = "not with one that was fine-tuned for MNLI, as the published figures of RTE do"

    def notes_of(source, name, **changes):
        config = finetune_config(data, task="rte", num_seeds=1, data__max_length=24, **changes)
        assert finetune(config, tmp_path / name, init_from=str(source)) == 0
        (result,) = read_results(tmp_path / name)
        found = [note for note in result.notes if words in note]
        assert capsys.readouterr().out.count(words) == len(found)
        assert (tmp_path / name / "results.md").read_text().count(words) == len(found)
        return found

    assert notes_of(complete, "plain") == [f"begins with the encoder as it is, {words}"]
    assert notes_of(finished, "sst2") == [f"begins with the model of SST-2, {words}"]
    assert notes_of(mnli, "begun") == []
    assert notes_of(complete, "random", model__random_weights=True) == []


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


@pytest.mark.slow
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
