"""Where a model lies."""

import jax
import numpy as np
import pytest

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError
from roberta_jax.inference.model import load
from roberta_jax.inference.source import open_source, source_config, tokenizer_folder
from roberta_jax.interop.import_model import import_model
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train.workdir import read_config
from tests.interop import foreign


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "roberta"
    foreign.write_folder(folder)
    return folder


def test_a_foreign_folder_and_its_import_are_the_same_model(folder, tmp_path):
    import_model(folder, tmp_path / "run", say=lambda line: None)
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        one, other = (open_source(path, mesh) for path in (folder, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, one[1], other[1])
    assert one[0].encoder.vocab_size == other[0].encoder.vocab_size
    assert one[2].fingerprint == other[2].fingerprint and one[3] == other[3] == 0
    assert source_config(folder).encoder.hidden_size == one[0].encoder.hidden_size
    assert tokenizer_folder(folder) == folder
    assert tokenizer_folder(tmp_path / "run") == tmp_path / "run" / "tokenizer"


def test_a_step_of_what_has_none_is_refused(folder):
    with pytest.raises(UserError, match="no workdir and has no steps; leave step 7 out"):
        load(folder, step=7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("roberta-base", "is not there. A model is a folder on this machine, nothing is downloa"),
        ("file", "is a file, not the folder of a model"),
        ("empty", "has neither config.json nor model.pt. Give the workdir of a run, or a Hug"),
        ("fairseq", "has model.pt, but no dict.txt"),
        ("tuned", "is a fine-tuning workdir, .* Use `roberta-jax predict --model="),
        ("tuned/sst2", "is a fine-tuned model, .* Use `roberta-jax predict --model="),
        ("tuned/sst2/model", "is a fine-tuned model, .* Use `roberta-jax predict --model="),
    ],
)
def test_what_is_no_model_is_explained(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    for folder in ("empty", "fairseq"):
        (tmp_path / folder).mkdir()
    (tmp_path / "fairseq" / "model.pt").write_bytes(b"")
    (tmp_path / "tuned" / "sst2" / "model" / "checkpoints").mkdir(parents=True)
    (tmp_path / "tuned" / "sst2" / "model" / "task.json").write_text("{}")
    (tmp_path / "tuned" / "results.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        load(tmp_path / name)
    if "fine-tun" in message:
        with pytest.raises(UserError, match=message):
            import_model(tmp_path / name, tmp_path / "imported")
        with pytest.raises(UserError, match=message):
            read_config(tmp_path / name)
