"""Which model fine-tuning begins with."""

import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.errors import UserError
from roberta_jax.finetune import source as source_module
from roberta_jax.finetune.source import open_encoder
from roberta_jax.parallel.mesh import make_mesh
from tests.interop import foreign


@pytest.fixture
def opened(monkeypatch):
    """`opened(folder, task)` → the fine-tuned model that would be read."""

    class Read(Exception):
        pass

    def read_task_model(folder, mesh):
        raise Read(folder)

    monkeypatch.setattr(source_module, "read_task_model", read_task_model)

    def open_at(folder, task):
        with pytest.raises(Read) as caught:
            open_encoder(folder, make_mesh(c.MeshConfig()), c.TaskModelConfig(), task=task)
        return caught.value.args[0]

    return open_at


def add_model(workdir, task):
    folder = workdir / task / "model"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text("{}")
    return folder


def test_of_a_workdir_the_model_of_the_task_is_taken_or_the_only_one(opened, tmp_path):
    sst2 = add_model(tmp_path, "sst2")
    assert opened(tmp_path, "mnli") == opened(tmp_path, "") == sst2
    mnli = add_model(tmp_path, "mnli")
    assert opened(tmp_path, "mnli") == mnli
    assert opened(sst2, "mnli") == opened(tmp_path / "sst2", "mnli") == sst2


def test_of_several_that_are_not_the_task_s_none_is_guessed(tmp_path):
    add_model(tmp_path, "sst2")
    add_model(tmp_path, "cola")
    with pytest.raises(UserError, match="models of several tasks: cola, sst2"):
        open_encoder(tmp_path, make_mesh(c.MeshConfig()), c.TaskModelConfig(), task="mnli")


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(UserError, match="is no model that is known"):
        open_encoder(tmp_path, make_mesh(c.MeshConfig()), c.TaskModelConfig())


def test_a_pretraining_run_gives_encoder_tokenizer_and_name(complete):
    settings = c.TaskModelConfig(dropout_rate=0.3, attention_dropout_rate=0.2)
    found = open_encoder(complete, make_mesh(c.MeshConfig()), settings)
    assert set(found.params) == {"embedding", "layers"}
    assert (found.config.dropout_rate, found.config.attention_dropout_rate) == (0.3, 0.2)
    assert found.config.embedding_dropout_rate == 0.1 and not found.config.next_sentence_head
    assert found.description == f"{complete}, step 20" and found.family == "roberta"
    assert found.tokenizer.vocab_size == 300
    drawn = open_encoder(
        complete, make_mesh(c.MeshConfig()), c.TaskModelConfig(random_weights=True)
    )
    assert drawn.params == {} and drawn.config.hidden_size == found.config.hidden_size
    assert drawn.description == f"random weights, in the shape of {complete}, step 20"


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_a_folder_of_transformers_with_any_head_gives_its_encoder(tmp_path, family):
    tensors = foreign.make_tensors(foreign.config_values(family))
    kept = {name: each for name, each in tensors.items() if name.startswith(f"{family}.")}
    foreign.write_folder(tmp_path, family, tensors=kept, architectures=["Any"])
    found = open_encoder(tmp_path, make_mesh(c.MeshConfig()), c.TaskModelConfig())
    assert (found.family, found.description) == (family, str(tmp_path))
    np.testing.assert_array_equal(
        found.params["embedding"]["token"]["embedding"][: found.config.vocab_size],
        tensors[f"{family}.embeddings.word_embeddings.weight"],
    )


def test_what_predicted_next_sentences_becomes_the_pooler(complete, monkeypatch):
    config, params, tokenizer, step = source_module.open_source(complete, make_mesh(c.MeshConfig()))
    wide = config.encoder.hidden_size
    dense = {"kernel": np.ones((wide, wide)), "bias": np.ones(wide)}
    params = {**params, "next_sentence_head": {"dense": dense, "projection": {}}}
    monkeypatch.setattr(
        source_module, "open_source", lambda folder, mesh: (config, params, tokenizer, step)
    )
    found = open_encoder(complete, make_mesh(c.MeshConfig()), c.TaskModelConfig())
    assert set(found.params) == {"embedding", "layers", "pooler"}
    assert found.params["pooler"] is dense


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16")])
def test_what_auto_computes_in_is_the_machine_s(complete, monkeypatch, backend, dtype):
    mesh = make_mesh(c.MeshConfig())
    monkeypatch.setattr(source_module.jax, "default_backend", lambda: backend)
    monkeypatch.setattr(source_module, "check_implementation", lambda encoder: None)
    assert open_encoder(complete, mesh, c.TaskModelConfig()).config.compute_dtype == dtype
    for asked in ("float32", "bfloat16"):
        settings = c.TaskModelConfig(compute_dtype=asked)
        assert open_encoder(complete, mesh, settings).config.compute_dtype == asked
