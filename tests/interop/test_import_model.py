"""A model of another system becomes a workdir."""

import json
import os

import jax
import numpy as np
import pytest

from roberta_jax.config import MeshConfig, to_dict
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import MachineError, UserError
from roberta_jax.interop import import_model as module
from roberta_jax.interop.huggingface import read_huggingface
from roberta_jax.interop.import_model import import_model
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train.restore import load_run, load_run_tokenizer
from roberta_jax.train.workdir import read_config, write_config
from tests.interop import foreign
from tests.interop.test_fairseq import VALUES, fairseq_names, write_checkpoint, write_vocabulary
from tests.train import runs


def imported(source, output, **options):
    said = []
    import_model(source, output, say=said.append, **options)
    return said


def assert_refused(source, output, *messages, **options):
    before = sorted(output.parent.iterdir())
    with pytest.raises(UserError) as error:
        imported(source, output, **options)
    for message in messages:
        assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(output.parent.iterdir()) == before


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_a_hugging_face_folder_becomes_a_workdir(tmp_path, family):
    foreign.write_folder(tmp_path / "tiny-model", family)
    wanted = read_huggingface(tmp_path / "tiny-model")
    workdir = tmp_path / "run"
    said = imported(tmp_path / "tiny-model", workdir)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        config, params, step = load_run(workdir, mesh)
    assert config.encoder == wanted.config and step == 0
    assert config.data.sequence_length == foreign.POSITIONS and config.data.path == ""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), wanted.params)
    tokenizer = load_run_tokenizer(workdir, config)
    assert tokenizer.fingerprint == wanted.tokenizer.fingerprint
    origin = json.loads((workdir / "origin.json").read_text())
    assert (origin["model"], origin["family"], origin["left_out"]) == ("tiny-model", family, [])
    assert said[0].startswith(f"{family}: 3 layers x 16, vocabulary ")
    assert said[-1] == f"written to {workdir}" and len(said) == 2


def test_a_fairseq_folder_becomes_the_same_workdir(tmp_path):
    tensors = foreign.make_tensors(VALUES)
    foreign.write_folder(tmp_path / "a", tensors=tensors, vocab_size=VALUES["vocab_size"])
    foreign.bpe_with_filler().save(tmp_path / "a")
    (tmp_path / "b").mkdir()
    write_vocabulary(tmp_path / "b")
    write_checkpoint(tmp_path / "b", fairseq_names(tensors, new=False))
    states = []
    for name in ("a", "b"):
        imported(tmp_path / name, tmp_path / f"run-{name}")
        mesh = make_mesh(MeshConfig())
        with jax.set_mesh(mesh):
            config, params, _ = load_run(tmp_path / f"run-{name}", mesh)
        states.append((config.data.tokenizer_fingerprint, jax.device_get(params)))
    assert states[0][0] == states[1][0]
    jax.tree.map(np.testing.assert_array_equal, states[0][1], states[1][1])


def test_what_was_left_out_is_said_and_noted(tmp_path):
    tensors = foreign.make_tensors(foreign.config_values("bert"))
    tensors["cls.seq_relationship.weight"] = np.zeros((2, 16), np.float32)
    foreign.write_folder(tmp_path / "bert", "bert", tensors=tensors)
    said = imported(tmp_path / "bert", tmp_path / "run")
    assert said[1].endswith("no place for them: cls.seq_relationship.weight")
    origin = json.loads((tmp_path / "run" / "origin.json").read_text())
    assert origin["left_out"] == ["cls.seq_relationship.weight"]


def test_no_path_of_this_machine_is_kept(tmp_path):
    foreign.write_folder(tmp_path / "model")
    imported(tmp_path / "model", tmp_path / "run")
    for name in ("origin.json", "config.json", "checkpoints/0/record/metadata"):
        assert str(tmp_path) not in (tmp_path / "run" / name).read_text()


def test_a_trailing_slash_a_relative_path_and_a_link(tmp_path, monkeypatch):
    foreign.write_folder(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("model/", "./model", "link", f"{tmp_path}/model/")):
        imported(name, f"runs/{number}/")
        origin = json.loads((tmp_path / f"runs/{number}/origin.json").read_text())
        assert origin["model"] == "model"


def test_the_output_may_lie_in_the_model(tmp_path):
    foreign.write_folder(tmp_path / "model")
    before = {path.name for path in (tmp_path / "model").iterdir()}
    imported(tmp_path / "model", tmp_path / "model" / "run")
    assert {path.name for path in (tmp_path / "model").iterdir()} == before | {"run"}
    assert load_tokenizer(tmp_path / "model" / "run" / "tokenizer").vocab_size == 300


# ---- Where something is already -----------------------------------------------------------------


def test_only_an_earlier_import_is_replaced_and_only_when_asked(tmp_path):
    foreign.write_folder(tmp_path / "model")
    imported(tmp_path / "model", tmp_path / "run")
    (tmp_path / "run" / "mine").touch()
    assert_refused(tmp_path / "model", tmp_path / "run", "exists.", "--overwrite to replace it")
    assert (tmp_path / "run" / "mine").exists()
    imported(tmp_path / "model", tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "mine").exists()
    for name in ("other", "model"):
        (tmp_path / name).mkdir(exist_ok=True)
        for overwrite in (False, True):
            assert_refused(
                tmp_path / "model", tmp_path / name, "exists. Choose another", overwrite=overwrite
            )


def make_run(folder):
    """What a run leaves behind, without the weights."""
    (folder / "checkpoints").mkdir(parents=True)
    write_config(folder, runs.tiny_config())
    return folder


def test_a_run_is_never_replaced(tmp_path):
    foreign.write_folder(tmp_path / "model")
    run = make_run(tmp_path / "run")
    assert_refused(tmp_path / "model", run, "Choose another --output.", overwrite=True)


def test_an_import_that_fails_leaves_the_earlier_one(tmp_path):
    foreign.write_folder(tmp_path / "model")
    imported(tmp_path / "model", tmp_path / "run")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    before = sorted((tmp_path / "run").rglob("*"))
    assert_refused(tmp_path / "model", tmp_path / "run", "no whole safetensors", overwrite=True)
    assert sorted((tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_and_an_interrupt_leave_nothing(tmp_path, monkeypatch, error):
    from orbax.checkpoint import CheckpointManager

    def refuse(*arguments, **options):
        raise error

    foreign.write_folder(tmp_path / "model")
    monkeypatch.setattr(CheckpointManager, "save", refuse)
    wanted = MachineError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(wanted):
        imported(tmp_path / "model", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# ---- What is no model ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roberta-base", "FacebookAI/roberta-base", "~/roberta-base"])
def test_the_name_of_a_model_that_is_not_here(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = name.replace("~", str(tmp_path))
    assert_refused(
        *(name, tmp_path / "run", f"{shown} is not there. A model is a folder on this machine"),
        *("nothing is downloaded", "Give a Hugging Face folder"),
    )


@pytest.mark.parametrize("name", ["hf://roberta-base", "https://huggingface.co/roberta-base"])
def test_an_address_is_no_folder(tmp_path, name):
    assert_refused(name, tmp_path / "run", f"The folder {name} is not local")


def test_other_places(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.pt").touch()
    (tmp_path / "file.safetensors").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "rob')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"encoder": {"num_layers": 2}}')
    for place, message in (
        ("empty", "it has neither config.json nor model.pt. Give a Hugging Face folder"),
        ("half", "half has model.pt, but no dict.txt. Give"),
        ("file.safetensors", "is a file, not the folder of a model. Give"),
        ("broken", "config.json is damaged"),
        ("other", "does not say of which type the model is"),
        (make_run(tmp_path / "own"), "is a workdir already; every command takes it as it is"),
    ):
        assert_refused(tmp_path / place, tmp_path / "run", message)


def test_a_model_beside_the_file_of_fairseq_is_taken_in_its_hugging_face_form(tmp_path):
    foreign.write_folder(tmp_path / "model")
    (tmp_path / "model" / "model.pt").touch()
    (tmp_path / "model" / "dict.txt").touch()
    assert imported(tmp_path / "model", tmp_path / "run")[0].startswith("roberta: 3 layers")


def test_an_output_where_no_folder_can_be(tmp_path):
    foreign.write_folder(tmp_path / "model")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        imported(tmp_path / "model", tmp_path / "file" / "run")


def test_the_config_is_that_of_a_run_and_can_be_stored(tmp_path):
    foreign.write_folder(tmp_path / "model")
    imported(tmp_path / "model", tmp_path / "run")
    config = read_config(tmp_path / "run")
    assert to_dict(config)["encoder"]["compute_dtype"] == "float32"
    assert config.data.tokenizer_fingerprint == foreign.byte_bpe().fingerprint


def test_the_weights_are_on_one_device_only(tmp_path, monkeypatch):
    """A large model fits the memory once."""
    foreign.write_folder(tmp_path / "model")
    devices = []
    original = module.CheckpointStore.save

    def save(self, step, state, record):
        devices.extend(len(leaf.devices()) for leaf in jax.tree.leaves(state))
        original(self, step, state, record)

    monkeypatch.setattr(module.CheckpointStore, "save", save)
    imported(tmp_path / "model", tmp_path / "run")
    assert jax.device_count() == 8 and set(devices) == {1}


def test_the_folder_has_the_permissions_of_others(tmp_path):
    foreign.write_folder(tmp_path / "model")
    imported(tmp_path / "model", tmp_path / "run")
    (tmp_path / "plain").mkdir()
    modes = {os.stat(tmp_path / name).st_mode for name in ("run", "plain")}
    assert len(modes) == 1
