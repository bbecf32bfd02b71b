"""A fine-tuned model on disk is the same one when it is read, or is refused in a paragraph."""

import dataclasses
import json
import shutil

import pytest

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError
from roberta_jax.finetune.model_folder import (
    MODEL_FOLDER,
    TASK_FILE,
    find_task_model,
    read_task_model,
)
from roberta_jax.parallel.mesh import make_mesh
from tests.finetune import models


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig())


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Tests must not change it."""
    return models.write_model(tmp_path_factory.mktemp("stored") / "model")


@pytest.fixture
def folder(stored, tmp_path):
    return shutil.copytree(stored, tmp_path / "model")


def change(folder, **values):
    path = folder / TASK_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", models.TASKS)
def test_what_is_written_is_read(name, mesh, tmp_path):
    model = models.make_model(name)
    read = read_task_model(models.write_model(tmp_path / "model", name), mesh)
    for field in dataclasses.fields(model):
        if field.name not in ("params", "tokenizer", "encoder"):
            assert getattr(read, field.name) == getattr(model, field.name), field.name
    assert read.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert read.encoder == dataclasses.replace(model.encoder)
    assert read.head == model.head
    assert models.same_params(read.params, model.params)


def test_the_weights_are_whole_on_every_device(stored, mesh):
    read = read_task_model(stored, mesh)
    for leaf in (read.params["head"]["dense"]["kernel"], read.params["embedding"]["norm"]["scale"]):
        assert len(leaf.addressable_shards) == 8 and leaf.is_fully_replicated


def test_what_stood_there_is_replaced(folder, mesh):
    models.write_model(folder, scores={"dev": {"accuracy": 0.5}})
    assert read_task_model(folder, mesh).scores == {"dev": {"accuracy": 0.5}}


def test_a_model_without_a_record_of_its_training_is_read(folder, mesh):
    values = json.loads((folder / TASK_FILE).read_text())
    del values["training"]
    (folder / TASK_FILE).write_text(json.dumps(values))
    assert read_task_model(folder, mesh).training == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / TASK_FILE).unlink(), "is no fine-tuned model: it has no task.json"),
        (lambda f: (f / TASK_FILE).write_text("{"), r"task.json cannot be read \(JSONDecodeError"),
        (lambda f: (f / TASK_FILE).write_text("[]"), "task.json cannot be read"),
        (lambda f: change(f, format=2), "has the format 2, and this version of roberta_jax reads"),
        (lambda f: change(f, task={"name": "x"}), "task.json cannot be read"),
        (lambda f: change(f, limits={"max_length": 8}), "task.json cannot be read"),
        (lambda f: change(f, encoder={"layers": 3}), "layers"),
        (lambda f: change(f, tokenizer_fingerprint="other"), "was trained with other"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
        (lambda f: shutil.rmtree(f / "checkpoints"), "has no complete weights"),
    ],
    ids=[
        *("no file", "no JSON", "a list", "format", "task", "limits", "encoder", "fingerprint"),
        *("no tokenizer", "no weights"),
    ],
)
def test_damage_is_told(folder, mesh, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_task_model(folder, mesh)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_weights_is_told(folder, mesh):
    """Wherever it is: no other weights are read than were written."""
    model = models.make_model()
    files = [path for path in (folder / "checkpoints").rglob("*") if path.stat().st_size > 1000]
    largest = max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    try:
        read = read_task_model(folder, mesh)
    except UserError as error:
        assert "\n" not in str(error)
    else:  # A bit that nothing reads.
        assert models.same_params(read.params, model.params)


def test_weights_of_another_shape_are_told(folder, mesh):
    task = json.loads((folder / TASK_FILE).read_text())["task"]
    change(folder, task={**task, "labels": ["bad", "good"]})
    with pytest.raises(UserError):
        read_task_model(folder, mesh)


# ---- Where it lies ------------------------------------------------------------------------------


@pytest.fixture
def workdir(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "run" / "moods" / MODEL_FOLDER)
    return tmp_path / "run"


def test_it_is_found_by_every_folder_above_it(workdir):
    model = workdir / "moods" / MODEL_FOLDER
    for folder in (workdir, workdir / "moods", model):
        assert find_task_model(folder) == model
    assert find_task_model(workdir, "moods") == model
    assert find_task_model(workdir, "other") is None
    assert find_task_model(workdir.parent / "nowhere") is None
    assert find_task_model(workdir.parent) is None


def test_of_several_one_has_to_be_named(workdir, stored):
    shutil.copytree(stored, workdir / "stars" / MODEL_FOLDER)
    with pytest.raises(UserError, match="models of several tasks: moods, stars. Give the folder"):
        find_task_model(workdir)
    assert find_task_model(workdir, "stars") == workdir / "stars" / MODEL_FOLDER
