"""The loss of a checkpoint on a prepared dataset."""

import json

import pytest

from roberta_jax.errors import UserError
from roberta_jax.inference import evaluate as evaluate_module
from roberta_jax.inference.evaluate import evaluate_model
from tests.train import runs


def change_config(workdir, **changes):
    """Writes `config.json` of a copy with other settings, {"section__field": value}."""
    values = json.loads((workdir / "config.json").read_text())
    for path, value in changes.items():
        section, field = path.split("__")
        values[section][field] = value
    (workdir / "config.json").write_text(json.dumps(values))


def test_it_is_the_loss_that_the_run_itself_measured(complete, dataset):
    logged = [line for line in runs.lines_of(complete) if line["kind"] == "eval"]
    step, evaluation = evaluate_model(complete, max_rows=16)
    assert step == 20
    assert evaluation.loss_nats == pytest.approx(logged[-1]["loss_nats"], rel=1e-6)
    assert evaluation.num_predictions == logged[-1]["num_predictions"]
    step, earlier = evaluate_model(complete, step=10, max_rows=16)
    assert step == 10
    assert earlier.loss_nats == pytest.approx(logged[1]["loss_nats"], rel=1e-6)
    assert earlier.loss_nats > evaluation.loss_nats


def test_all_rows_are_the_default_and_the_split_is_free(complete):
    _, some = evaluate_model(complete, max_rows=16)
    _, every = evaluate_model(complete)
    _, train = evaluate_model(complete, split="train")
    assert some.num_predictions < every.num_predictions < train.num_predictions


@pytest.mark.parametrize(
    "change",
    [
        {"train__batch_size": 12},
        {"train__batch_size": 3, "train__num_microbatches": 3},
        {"mesh__data": 2, "mesh__fsdp": 2},
    ],
    ids=["rows", "microbatches", "devices"],
)
def test_another_machine_than_the_run_s_gives_the_same(complete, tmp_path, change):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    change_config(workdir, **change)
    _, wanted = evaluate_model(complete)
    _, found = evaluate_model(workdir)
    assert found.num_predictions == wanted.num_predictions
    assert found.loss_nats == pytest.approx(wanted.loss_nats, rel=1e-6)


@pytest.fixture
def no_weights(monkeypatch):
    """Bad input is refused before the weights are read."""

    def fail(*arguments, **options):
        raise AssertionError("it was about to read the weights")

    monkeypatch.setattr(evaluate_module, "open_source", fail)


def refusal(workdir, **options):
    with pytest.raises(UserError) as caught:
        evaluate_model(workdir, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dataset_that_does_not_fit_is_refused(complete, tmp_path, no_weights):
    assert "is no prepared dataset" in refusal(complete, data=str(tmp_path))
    assert "no split 'test'" in refusal(complete, split="test")
    other = runs.make_dataset(tmp_path / "other", seed=1)
    text = refusal(complete, data=str(other))
    assert "was prepared with the tokenizer" in text and "/tokenizer" in text
    longer = runs.make_dataset(tmp_path / "longer", sequence_length=64)
    assert "have 64 tokens; this model takes at most 32" in refusal(complete, data=str(longer))
    whole = runs.make_dataset(tmp_path / "whole", validation=0.0)
    assert "no split 'validation'" in refusal(
        complete, data=str(whole)
    ) or "has no rows" in refusal(complete, data=str(whole))


def test_a_workdir_or_a_step_that_is_not_there_is_refused(complete, tmp_path):
    assert "is not there" in refusal(tmp_path / "none")
    assert "has no checkpoint of step 7. It has: [5, 10, 15, 20]" in refusal(complete, step=7)
    assert not (tmp_path / "none").exists()
