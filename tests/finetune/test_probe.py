"""Probes: a pretraining run that looks at a task."""

import jax
import pytest

from roberta_jax import config as c
from roberta_jax.errors import UserError
from roberta_jax.finetune.probe import make_probe
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.report.metrics import read_metrics
from roberta_jax.report.plots import probe_quantities
from roberta_jax.train.pretrain import pretrain
from roberta_jax.train.restore import load_run, load_run_tokenizer
from tests.finetune.tasks_on_disk import write_sst2
from tests.train import runs


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return write_sst2(tmp_path_factory.mktemp("glue"))


def test_a_run_looks_at_a_task_and_learns_the_same(complete, dataset, glue, tmp_path):
    config = runs.tiny_config(
        dataset, probe__every_steps=10, probe__path=str(glue), probe__train_examples=40
    )
    assert pretrain(config, tmp_path / "run", make_probe=make_probe) == 0
    lines = runs.lines_of(tmp_path / "run")
    probes = {line["step"]: line["probe_accuracy"] for line in lines if "probe_accuracy" in line}
    assert set(probes) == {10, 20} and all(0 <= value <= 1 for value in probes.values())
    others = [line for line in lines if "probe_accuracy" not in line]
    assert others == runs.lines_of(complete)  # Nothing else is different.
    (quantity,) = probe_quantities([read_metrics(tmp_path / "run")])
    assert quantity.title == "Probe: sst2 accuracy"


@pytest.mark.parametrize("kind", ["linear", "finetune"])
def test_a_probe_is_a_function_of_the_weights(complete, glue, kind):
    mesh = make_mesh(c.MeshConfig())
    with jax.set_mesh(mesh):
        config, params, _ = load_run(complete, mesh)
        tokenizer = load_run_tokenizer(complete, config)
        settings = c.ProbeConfig(
            every_steps=1, kind=kind, path=str(glue), epochs=2.0, learning_rate=1e-3
        )
        probe = make_probe(settings, config.encoder, tokenizer, mesh)
        first = probe(params)
        assert set(first) == {"accuracy"} and probe(params) == first


def test_what_a_linear_probe_cannot_take_is_said(complete, tmp_path):
    mesh = make_mesh(c.MeshConfig())
    config, _, _ = load_run(complete, mesh)
    tokenizer = load_run_tokenizer(complete, config)
    settings = c.ProbeConfig(every_steps=1, task="squad1", path=str(tmp_path))
    with pytest.raises(UserError, match="takes classification and regression"):
        make_probe(settings, config.encoder, tokenizer, mesh)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, "The data of SST-2 is nowhere, which is no folder"),
        ({"path": ".", "task": "sst3"}, "'sst3' is no published task"),
        ({"path": ".", "task": "squad1"}, "Set probe.kind=finetune"),
    ],
)
def test_a_probe_that_cannot_be_made_leaves_no_workdir(
    dataset, tmp_path, monkeypatch, changes, message
):
    monkeypatch.chdir(tmp_path)
    changes = {f"probe__{name}": value for name, value in changes.items()}
    config = runs.tiny_config(dataset, probe__every_steps=5, **changes)
    with pytest.raises(UserError, match=message):
        pretrain(config, tmp_path / "run", make_probe=make_probe)
    assert list(tmp_path.iterdir()) == []


def test_a_probe_needs_its_files():
    config = runs.tiny_config("somewhere", probe__every_steps=5)
    with pytest.raises(UserError, match=r"config\.probe\.path"):
        config.validate()
