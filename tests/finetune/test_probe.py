"""Probes: a pretraining run that looks at a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.encoder.model import bind
from roberta_jax.errors import UserError
from roberta_jax.finetune import probe as probe_module
from roberta_jax.finetune.probe import make_probe
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.report.metrics import read_metrics
from roberta_jax.report.plots import probe_quantities
from roberta_jax.train.pretrain import pretrain
from roberta_jax.train.restore import load_run, load_run_tokenizer
from tests.finetune.tasks_on_disk import write_race, write_squad, write_sst2
from tests.train import runs


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return write_sst2(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def run(complete):
    """Mesh, encoder, weights and tokenizer of a run, under its mesh."""
    mesh = make_mesh(c.MeshConfig())
    with jax.set_mesh(mesh):
        config, params, _ = load_run(complete, mesh)
        yield mesh, config.encoder, params, load_run_tokenizer(complete, config)


def probe_of(run, path, **settings):
    mesh, encoder, _, tokenizer = run
    config = c.ProbeConfig(every_steps=1, path=str(path), **settings)
    return make_probe(config, encoder, tokenizer, mesh)


def write_rows(folder, train, dev):
    """SST-2 of (text, label)."""
    (folder / "SST-2").mkdir(parents=True)
    for name, rows in (("train", train), ("dev", dev)):
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
        (folder / "SST-2" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_run_looks_at_a_task_and_learns_the_same(complete, dataset, glue, tmp_path, run):
    config = runs.tiny_config(
        dataset, probe__every_steps=10, probe__path=str(glue), probe__train_examples=40
    )
    assert pretrain(config, tmp_path / "run", make_probe=make_probe) == 0
    lines = runs.lines_of(tmp_path / "run")
    probes = {line["step"]: line["probe_accuracy"] for line in lines if "probe_accuracy" in line}
    assert set(probes) == {10, 20}
    # The last one is that of the weights with which the run ended.
    assert probes[20] == probe_of(run, glue, train_examples=40)(run[2])["accuracy"]
    others = [line for line in lines if "probe_accuracy" not in line]
    assert others == runs.lines_of(complete)  # Nothing else is different.
    (quantity,) = probe_quantities([read_metrics(tmp_path / "run")])
    assert quantity.title == "Probe: sst2 accuracy"


@pytest.mark.slow
def test_features_are_means_over_the_states_of_each_rows_own_tokens(run, tmp_path, monkeypatch):
    """Of every row by itself, without padding, the mean taken by NumPy; of any weights."""
    mesh, encoder, params, tokenizer = run
    texts = ["me", "the old river", "nobody knew why rain fell in that small village", "and " * 60]
    rows = [(texts[place].strip(), place % 2) for place in (3, 0, 2, 1, 1, 3, 0, 0, 2, 1) * 3]
    write_rows(tmp_path, rows, rows[7:])
    seen = []
    monkeypatch.setattr(probe_module, "linear_scores", lambda *given: seen.append(given) or {})
    monkeypatch.setattr(probe_module, "_BATCH_SIZE", 1)  # Several batches, the last one filled up.
    probe = probe_of(run, tmp_path)
    longest = encoder.max_positions

    def states(weights, tokens):
        return bind(encoder, weights).states(tokens)

    others = jax.tree.map(
        lambda leaf: leaf + 0.05 * jnp.cos(7.0 * jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    for weights in (params, others):
        expected = {}
        for text in texts:
            ids = tokenizer.row(tokenizer.encode_batch([text.strip()])[0][: longest - 2], None)
            alone = jax.jit(states)(weights, jnp.array([ids] * mesh.devices.size))
            expected[text.strip()] = np.asarray(alone[0], np.float64).mean(axis=0)
        assert len({array.tobytes() for array in expected.values()}) == len(texts)
        probe(weights)
        for (features, examples), wanted in zip(seen[-1][1:], (rows, rows[7:]), strict=True):
            assert [(each.texts[0], each.label) for each in examples] == wanted
            np.testing.assert_allclose(
                features, [expected[text] for text, _ in wanted], rtol=1e-5, atol=2e-6
            )
    # The two sets of weights give other features.
    assert np.abs(seen[0][1][0] - seen[1][1][0]).max() > 1e-2


@pytest.mark.parametrize("kind", ["linear", pytest.param("finetune", marks=pytest.mark.slow)])
def test_a_probe_finds_what_the_weights_tell_and_no_more(run, glue, kind):
    """The classes of `glue` have no word in common; weights of nothing but 0 see no word."""
    _, encoder, params, _ = run
    probe = probe_of(run, glue, kind=kind, epochs=8.0, learning_rate=1e-2)
    first = probe(params)
    assert first == {"accuracy": 1.0}
    blind = jax.tree.map(jnp.zeros_like, params)
    assert probe(blind) == {"accuracy": 0.5}
    assert probe(params) == first  # Nothing of the weights in between stayed.


def test_a_linear_probe_is_chance_where_labels_say_nothing(run, tmp_path):
    generator = np.random.Generator(np.random.Philox(key=1))

    def rows(count):
        for label in generator.permutation(np.arange(count) % 2):
            yield " ".join(generator.choice(runs.WORDS, 6)), label

    write_rows(tmp_path, list(rows(300)), list(rows(300)))
    # Three deviations of 300 coins.
    assert abs(probe_of(run, tmp_path)(run[2])["accuracy"] - 0.5) < 0.09


def test_so_many_examples_are_looked_at_and_the_same_every_time(run, glue, monkeypatch):
    seen = []
    monkeypatch.setattr(probe_module, "linear_scores", lambda *given: seen.append(given) or {})
    for _ in range(2):
        probe_of(run, glue, train_examples=20, dev_examples=7)(run[2])
    (first, second) = ([[e.id for e in part[1]] for part in given[1:]] for given in seen)
    assert [len(set(part)) for part in first] == [20, 7] and first == second


@pytest.mark.slow
def test_a_model_of_few_positions_can_be_asked_what_has_long_rows(run, tmp_path):
    for task, write in (("race", write_race), ("squad2", write_squad)):
        data = write(tmp_path / task)
        found = probe_of(run, data, task=task, kind="finetune", epochs=1.0)(run[2])
        assert all(0 <= value <= 1 for value in found.values()) and found


def test_what_a_linear_probe_cannot_take_is_said(run, tmp_path):
    with pytest.raises(UserError, match="takes classification and regression"):
        probe_of(run, tmp_path, task="squad1")
    write_rows(tmp_path, [("the river", 1)] * 3, [("a house", 0)])
    with pytest.raises(UserError, match="sees 3 training examples of SST-2, all of the class '1'"):
        probe_of(run, tmp_path)


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
