"""A workdir becomes a folder that transformers opens."""

import json
import tracemalloc
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from roberta_jax import config as c
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.encoder.model import abstract_params
from roberta_jax.errors import MachineError, UserError
from roberta_jax.interop import huggingface as huggingface_module
from roberta_jax.interop.export_model import export_model
from roberta_jax.interop.host_mesh import host_mesh
from roberta_jax.interop.huggingface import read_huggingface, write_huggingface
from roberta_jax.interop.import_model import import_model
from roberta_jax.interop.weights import weight_shapes
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import path_name, shardings
from roberta_jax.train.restore import load_run, load_run_tokenizer
from roberta_jax.train.workdir import write_config
from tests.interop import foreign
from tests.train import runs

FILES = {
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.json", "merges.txt"),
}


def export(workdir, output, **options):
    said = []
    export_model(workdir, output, say=said.append, **options)
    return said


def loaded(workdir, step=-1):
    mesh = make_mesh(c.MeshConfig())
    with jax.set_mesh(mesh):
        config, params, step = load_run(workdir, mesh, step=step)
    return config, jax.device_get(params), step


def assert_same_params(found, wanted):
    """But for the rows that pad the vocabulary: an imported model has more of them."""

    def compare(path, left, right):
        rows = slice(runs.VOCAB_SIZE if "token/" in path_name(path) or left.ndim == 1 else None)
        np.testing.assert_array_equal(left[rows], right[rows])

    jax.tree_util.tree_map_with_path(compare, found, wanted)


def assert_refused(workdir, output, *messages, **options):
    before = sorted(output.parent.iterdir())
    with pytest.raises(UserError) as error:
        export(workdir, output, **options)
    for message in messages:
        assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(output.parent.iterdir()) == before


@pytest.fixture(scope="module")
def exported(complete, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "my-model"
    export(complete, folder)
    return folder


# ---- What is in the folder ----------------------------------------------------------------------


def test_the_files(exported):
    assert {path.name for path in exported.iterdir()} == FILES


def test_what_comes_in_again_is_what_went_out(complete, exported):
    config, params, _ = loaded(complete)
    model = read_huggingface(exported)
    assert_same_params(model.params, params)
    tokenizer = load_run_tokenizer(complete, config)
    assert model.tokenizer.fingerprint == tokenizer.fingerprint
    computed = {"vocab_padding_multiple": 128, "attention_implementation": "auto"}
    for name, value in c.field_paths(config.encoder).items():
        if name not in computed:
            assert getattr(model.config, name) == value, name


def test_config_json(exported):
    values = json.loads((exported / "config.json").read_text())
    wanted = {
        "architectures": ["RobertaForMaskedLM"],
        "model_type": "roberta",
        "vocab_size": runs.VOCAB_SIZE,
        "max_position_embeddings": runs.SEQUENCE_LENGTH + 2,
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "dtype": "float32",
    }
    assert wanted.items() <= values.items()


def test_the_vocabulary_has_no_padding_rows(exported):
    tensors = load_file(exported / "model.safetensors")
    # The table inside has 304 rows.
    assert tensors["roberta.embeddings.word_embeddings.weight"].shape == (300, 16)
    assert tensors["lm_head.bias"].shape == (300,)
    types = tensors["roberta.embeddings.token_type_embeddings.weight"]
    assert types.shape == (1, 16) and not types.any()


def test_the_tokenizer_says_how_long_a_text_may_be(exported):
    settings = json.loads((exported / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == runs.SEQUENCE_LENGTH


def test_the_card_is_that_of_the_run(exported, complete):
    card = (exported / "README.md").read_text()
    last = [line for line in runs.lines_of(complete) if line["kind"] == "eval"][-1]
    for text in (
        "# my-model",
        "20 updates, 320 rows of 32 tokens. It began with random weights.",
        f"| loss | {last['loss_nats']:.4f} nats |",
        f"| perplexity | {last['perplexity']:,.3f} |",
        "| updates | 20, of a run of 20 steps |",
        "| documents | ",
        "On held-out rows, at step 20",
    ):
        assert text in card


def test_no_path_of_this_machine_leaves(exported, complete, dataset):
    for path in exported.iterdir():
        content = path.read_bytes()
        for place in (exported.parent, complete.parent, dataset.parent):
            assert str(place).encode() not in content, path.name


def test_what_is_said(complete, tmp_path):
    (said,) = export(complete, tmp_path / "out")
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert said == f"roberta, step 20, float32, {size / 1e6:,.1f} MB, written to {tmp_path / 'out'}"


def test_an_older_checkpoint(complete, exported, tmp_path):
    export(complete, tmp_path / "out", step=10)
    _, params, step = loaded(complete, step=10)
    assert_same_params(read_huggingface(tmp_path / "out").params, params)
    names = ("model.safetensors", "config.json")
    same = [(tmp_path / "out" / n).read_bytes() == (exported / n).read_bytes() for n in names]
    assert same == [False, True]
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "10 updates, 160 rows" in card
        and "at step 10," in card
        and "| updates | 10, of a run" in card
    )


def test_bfloat16_differs_by_rounding_only(complete, exported, tmp_path):
    export(complete, tmp_path / "out", dtype="bfloat16")
    wanted, found = (
        load_file(folder / "model.safetensors") for folder in (exported, tmp_path / "out")
    )
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(found[name], tensor.astype(ml_dtypes.bfloat16))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


# ---- From any mesh ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(2, 2, 2), (4, 3, 1)])
def test_a_checkpoint_of_any_mesh(complete, exported, tmp_path, sizes):
    """Saved from 8 devices; a config of 12 is one of another machine."""
    config, params, _ = loaded(complete)
    config.mesh = c.MeshConfig(**dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)))
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "tokenizer").symlink_to(complete / "tokenizer")
    write_config(workdir, config)
    on = config.mesh if np.prod(sizes) != 12 else c.MeshConfig(fsdp=2, tensor=4)
    placed = jax.device_put(params, shardings(params, make_mesh(on)))
    with CheckpointStore(workdir / "checkpoints", config.checkpoint) as store:
        record = {"config": c.to_dict(config), "examples_seen": 1, "data_fingerprint": "0"}
        store.save(20, {"params": placed}, record)
    export(workdir, tmp_path / "out")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (exported / name).read_bytes()


def test_weights_may_be_spread_over_devices(complete, exported, tmp_path):
    config, params, _ = loaded(complete)
    placed = jax.device_put(params, shardings(params, make_mesh(c.MeshConfig(fsdp=2, tensor=4))))
    tokenizer = load_run_tokenizer(complete, config)
    write_huggingface(tmp_path, placed, config.encoder, tokenizer)
    name = "model.safetensors"
    assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


# ---- Memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_writing_holds_about_one_weight_beyond_the_model(tmp_path, monkeypatch, dtype):
    encoder = c.EncoderConfig(
        vocab_size=3_000, num_layers=8, hidden_size=128, num_heads=2, mlp_size=512, max_positions=64
    )
    shapes = weight_shapes(encoder)
    params = jax.device_put(
        jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes),
        shardings(shapes, host_mesh()),
    )
    model_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    table_bytes = encoder.padded_vocab_size() * encoder.hidden_size * 4
    assert model_bytes > 5 * table_bytes  # Else the limits would say nothing.
    num_whole = len(jax.tree.leaves({**params, "layers": {}}))
    on_device, given = [], []
    original = huggingface_module.tensors_of

    def tensors_of(*arguments, **options):
        for name, array in original(*arguments, **options):
            given.append(weakref.ref(array))
            yield name, array
            # Weights that are no stacks of layers come as views, which their arrays remember.
            assert sum(reference() is not None for reference in given) <= 1 + num_whole
            on_device.append(sum(array.nbytes for array in jax.live_arrays()))

    monkeypatch.setattr(huggingface_module, "tensors_of", tensors_of)
    tokenizer = foreign.byte_bpe()
    write_huggingface(tmp_path, params, encoder, tokenizer, dtype=dtype)  # Compiles.
    on_device.clear()
    tracemalloc.start()
    try:
        write_huggingface(tmp_path, params, encoder, tokenizer, dtype=dtype)
        on_host = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The others are arrays of other tests, and the files of the tokenizer.
    assert max(on_device) - min(on_device) < table_bytes
    assert on_host < table_bytes + 2**20


def test_the_model_is_on_one_device_only(complete, tmp_path, monkeypatch):
    """On a machine with many, every one would have to hold a large model whole."""
    devices = []
    original = huggingface_module.tensors_of

    def tensors_of(params, *arguments, **options):
        devices.extend(len(leaf.devices()) for leaf in jax.tree.leaves(params))
        return original(params, *arguments, **options)

    monkeypatch.setattr(huggingface_module, "tensors_of", tensors_of)
    export(complete, tmp_path / "out")
    assert jax.device_count() == 8 and set(devices) == {1}


# ---- Imported models ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_an_imported_model_comes_out_as_it_came_in(tmp_path, family):
    tensors = foreign.write_folder(tmp_path / "tiny", family)
    import_model(tmp_path / "tiny", tmp_path / "run", say=lambda line: None)
    (said,) = export(tmp_path / "run", tmp_path / "out")
    assert said.startswith(f"{family}, step 0, float32")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    assert foreign.config_values(family).items() <= values.items()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "imported by roberta_jax from tiny." in card and f"- {family}" in card
    assert str(tmp_path) not in card


def test_a_bert_with_both_heads_comes_out_as_it_came_in(tmp_path):
    tensors = foreign.write_folder(tmp_path / "tiny", "bert", **foreign.PRETRAINING)
    said = []
    import_model(tmp_path / "tiny", tmp_path / "run", say=said.append)
    assert not [line for line in said if "left out" in line]
    assert len(export(tmp_path / "run", tmp_path / "out")) == 1
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == tensors.keys() and "cls.seq_relationship.weight" in tensors
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    assert values["architectures"] == ["BertForPreTraining"]
    assert read_huggingface(tmp_path / "out").config.next_sentence_head
    assert "| next-sentence head | included |" in (tmp_path / "out" / "README.md").read_text()


def test_a_roberta_leaves_its_next_sentence_head_here_and_says_so(tmp_path):
    foreign.write_folder(tmp_path / "tiny")
    import_model(tmp_path / "tiny", tmp_path / "run", say=lambda line: None)
    export(tmp_path / "run", tmp_path / "plain")
    config, params, _ = loaded(tmp_path / "run")
    config.encoder.next_sentence_head = True
    own = abstract_params(config.encoder)["next_sentence_head"]
    params["next_sentence_head"] = jax.tree.map(lambda leaf: np.ones(leaf.shape), own)
    write_config(tmp_path / "run", config)
    with CheckpointStore(tmp_path / "run" / "checkpoints", config.checkpoint) as store:
        record = {"config": c.to_dict(config), "examples_seen": 1, "data_fingerprint": "0"}
        store.save(1, {"params": jax.device_put(params)}, record)
    said = export(tmp_path / "run", tmp_path / "out")
    assert said[0] == (
        "left out, since transformers has no roberta with one: the next-sentence head"
    )
    assert said[1].startswith("roberta, step 1,")
    for name in ("model.safetensors", "config.json"):
        plain, found = ((tmp_path / place / name).read_bytes() for place in ("plain", "out"))
        assert plain == found
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| next-sentence head | left out: transformers has no roberta with one |" in card


def test_a_roberta_with_another_kind_of_tokenizer_stays_a_roberta(tmp_path):
    rows = foreign.num_tokens("xlm-roberta")
    foreign.write_folder(tmp_path / "tiny", vocab_size=rows)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "tiny" / name).unlink()
    foreign.write_tokenizer(tmp_path / "tiny", "xlm-roberta")
    import_model(tmp_path / "tiny", tmp_path / "run", say=lambda line: None)
    export(tmp_path / "run", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "roberta"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"model": "a"}'])
def test_a_damaged_note_of_the_origin_is_said(tmp_path, content):
    foreign.write_folder(tmp_path / "tiny")
    import_model(tmp_path / "tiny", tmp_path / "run", say=lambda line: None)
    (tmp_path / "run" / "origin.json").write_text(content)
    assert_refused(tmp_path / "run", tmp_path / "out", "origin.json cannot be read", "Import the")


# ---- Where something is already -----------------------------------------------------------------


def test_only_an_earlier_export_is_replaced_and_only_when_asked(complete, tmp_path):
    export(complete, tmp_path / "out", step=5)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert_refused(complete, tmp_path / "out", "exists. Choose", "or --overwrite to replace it.")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    export(complete, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_somebody_else_wrote_is_never_replaced(complete, tmp_path, overwrite):
    """The published model, for example, that was imported."""
    foreign.write_folder(tmp_path / "roberta-base")
    (tmp_path / "roberta-base" / "README.md").write_text("# RoBERTa base\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("roberta-base", "empty", "file"):
        message = "exists, and `roberta-jax export` did not write it. Choose another --output."
        assert_refused(complete, tmp_path / name, message, overwrite=overwrite)
    assert_refused(complete, complete, "did not write it", overwrite=overwrite)


def test_the_output_may_lie_in_the_workdir(complete, tmp_path):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    export(workdir, workdir / "exported" / "now")
    assert read_huggingface(workdir / "exported" / "now").config.num_layers == 2
    assert loaded(workdir)[2] == 20


# ---- What cannot be exported --------------------------------------------------------------------


def test_what_is_no_workdir(complete, exported, tmp_path):
    for workdir, message in (
        (tmp_path / "nowhere", "is not a workdir"),
        (tmp_path, "is not a workdir"),
        (exported, "is a Hugging Face folder, not a workdir. `roberta-jax import"),
        ("gs://bucket/run", "is not local"),
    ):
        assert_refused(workdir, tmp_path / "out", message)
    message = "has no checkpoint of step 7. It has: [5, 10, 15, 20]"
    assert_refused(complete, tmp_path / "out", message, step=7)
    assert_refused(complete, tmp_path / "out", "dtype is 'int8'; it must be one of", dtype="int8")


def test_a_position_offset_that_transformers_does_not_know(complete, tmp_path):
    config, params, _ = loaded(complete)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "tokenizer").symlink_to(complete / "tokenizer")
    config.encoder.position_offset, config.encoder.max_positions = 3, 31
    write_config(workdir, config)
    with CheckpointStore(workdir / "checkpoints", config.checkpoint) as store:
        store.save(1, {"params": jax.device_put(params)}, {"examples_seen": 1})
    assert_refused(workdir, tmp_path / "out", "position_offset is 3, and transformers computes")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_and_an_interrupt_leave_nothing(complete, tmp_path, monkeypatch, error):
    original = huggingface_module.tensors_of

    def tensors_of(*arguments, **options):
        for number, item in enumerate(original(*arguments, **options)):
            if number == 9:
                raise error
            yield item

    monkeypatch.setattr(huggingface_module, "tensors_of", tensors_of)
    wanted = MachineError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(wanted):
        export(complete, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_the_earlier_one(complete, tmp_path, monkeypatch):
    export(complete, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_module, "write_tensors", refuse)
    with pytest.raises(MachineError, match="No space left on device"):
        export(complete, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
