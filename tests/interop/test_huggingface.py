"""A folder of transformers in, a folder that transformers opens out."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from roberta_jax.encoder.task_model import TaskHead
from roberta_jax.errors import UserError
from roberta_jax.interop.huggingface import (
    family_of,
    is_huggingface_folder,
    read_huggingface,
    read_huggingface_encoder,
    write_huggingface,
)
from roberta_jax.interop.weights import weight_shapes
from tests.interop import foreign

families = pytest.mark.parametrize("family", foreign.FAMILIES)


def assert_same_tensors(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert found[name].tobytes() == tensor.tobytes(), name


def assert_refused(folder, *messages):
    with pytest.raises(UserError) as error:
        read_huggingface(folder)
    for message in messages:
        assert message in str(error.value)
    assert "\n" not in str(error.value)


def export(model, folder, **options):
    folder.mkdir()
    write_huggingface(folder, model.params, model.config, model.tokenizer, **options)
    return folder


@families
def test_in_and_out_again_gives_every_tensor_and_the_same_tokens(tmp_path, family):
    tensors = foreign.write_folder(tmp_path / "in", family)
    model = read_huggingface(tmp_path / "in")
    assert (model.family, model.left_out) == (family, [])
    out = export(model, tmp_path / "out")
    assert_same_tensors(load_file(out / "model.safetensors"), tensors)
    again = read_huggingface(out)
    assert again.config == model.config and again.family == family
    assert again.tokenizer.fingerprint == model.tokenizer.fingerprint
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


@families
def test_config_json_comes_out_as_it_went_in(tmp_path, family):
    foreign.write_folder(tmp_path / "in", family)
    out = export(read_huggingface(tmp_path / "in"), tmp_path / "out")
    values = json.loads((out / "config.json").read_text())
    assert foreign.config_values(family).items() <= values.items()
    ids = (None, None) if family == "bert" else (0, 2)
    assert (values["bos_token_id"], values["eos_token_id"]) == ids
    assert values["dtype"] == "float32"


@families
def test_the_tokenizer_that_comes_out_knows_how_long_a_text_may_be(tmp_path, family):
    foreign.write_folder(tmp_path / "in", family)
    out = export(read_huggingface(tmp_path / "in"), tmp_path / "out")
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == foreign.POSITIONS
    before = tmp_path / "in" / "tokenizer_config.json"
    assert json.loads(before.read_text()).items() <= settings.items()


def test_weights_out_as_bfloat16_are_the_nearest(tmp_path):
    tensors = foreign.write_folder(tmp_path / "in")
    out = export(read_huggingface(tmp_path / "in"), tmp_path / "out", dtype="bfloat16")
    rounded = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors.items()}
    assert_same_tensors(load_file(out / "model.safetensors"), rounded)
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    again = read_huggingface(out)  # And in again, as float32.
    table = again.params["embedding"]["position"]["embedding"]
    name = "roberta.embeddings.position_embeddings.weight"
    np.testing.assert_array_equal(table, rounded[name].astype(np.float32))


@families
def test_shards_are_as_good_as_one_file(tmp_path, family):
    tensors = foreign.write_folder(tmp_path / "model", family)
    wanted = read_huggingface(tmp_path / "model")
    foreign.write_shards(tmp_path / "model", tensors)
    found = read_huggingface(tmp_path / "model")
    jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)


def test_a_roberta_without_its_files_of_merges_is_read_from_tokenizer_json(tmp_path):
    """transformers 5 writes no others."""
    foreign.write_folder(tmp_path)
    wanted = read_huggingface(tmp_path).tokenizer
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    found = read_huggingface(tmp_path)
    assert (found.family, found.tokenizer.kind) == ("roberta", "byte_bpe")
    assert found.tokenizer.fingerprint == wanted.fingerprint


def test_a_roberta_with_another_kind_of_tokenizer_stays_a_roberta(tmp_path):
    foreign.write_tokenizer(tmp_path, "xlm-roberta")
    values = foreign.config_values("roberta", vocab_size=foreign.num_tokens("xlm-roberta"))
    foreign.write_config(tmp_path, values)
    save_file(foreign.make_tensors(values), tmp_path / "model.safetensors")
    model = read_huggingface(tmp_path)
    assert model.family == "roberta"
    assert family_of(model.config, model.tokenizer) == "xlm-roberta"  # Which computes the same.
    out = export(model, tmp_path / "out", family=model.family)
    values = json.loads((out / "config.json").read_text())
    assert (values["model_type"], values["architectures"]) == ("roberta", ["RobertaForMaskedLM"])


@families
def test_a_table_padded_beyond_the_tokenizer_is_kept(tmp_path, family):
    rows = foreign.num_tokens(family) + 5
    tensors = foreign.write_folder(tmp_path / "in", family, vocab_size=rows)
    model = read_huggingface(tmp_path / "in")
    assert model.config.vocab_size == rows == model.tokenizer.vocab_size + 5
    out = export(model, tmp_path / "out")
    assert_same_tensors(load_file(out / "model.safetensors"), tensors)


@families
def test_a_tokenizer_with_more_entries_than_the_model_is_refused(tmp_path, family):
    foreign.write_folder(tmp_path, family, vocab_size=foreign.num_tokens(family) - 1)
    assert_refused(tmp_path, f"The tokenizer in {tmp_path} has", "They do not belong together.")


def test_a_tokenizer_that_pads_with_another_id_is_refused(tmp_path):
    foreign.write_folder(tmp_path, pad_token_id=0, max_position_embeddings=25)
    assert_refused(tmp_path, "pads with id 1, and the model with 0")


def test_padding_that_the_config_does_not_name_is_that_of_the_architecture(tmp_path):
    for family in foreign.FAMILIES:
        foreign.write_folder(tmp_path / family, family, pad_token_id=None)
        assert read_huggingface(tmp_path / family).config.pad_id == (family != "bert")


def test_one_token_type_that_is_not_zero_is_kept(tmp_path):
    values = foreign.config_values("roberta")
    tensors = foreign.make_tensors(values)
    tensors["roberta.embeddings.token_type_embeddings.weight"][:] = 0.5
    foreign.write_folder(tmp_path / "in", tensors=tensors)
    model = read_huggingface(tmp_path / "in")
    assert model.config.num_token_types == 1
    out = export(model, tmp_path / "out")
    assert_same_tensors(load_file(out / "model.safetensors"), tensors)


def test_a_config_without_architectures_will_do(tmp_path):
    foreign.write_folder(tmp_path, architectures=None)
    assert read_huggingface(tmp_path).family == "roberta"


def test_placed_weights_may_be_anything(tmp_path):
    foreign.write_folder(tmp_path, type_vocab_size=2)
    model = read_huggingface(tmp_path, put=lambda path, array: jax.device_put(array))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model.params))


# ---- Encoders -----------------------------------------------------------------------------------


def without_heads(tensors, family, prefix=True):
    base = "bert." if family == "bert" else "roberta."
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(base)}
    return kept if prefix else {name[len(base) :]: tensor for name, tensor in kept.items()}


@families
@pytest.mark.parametrize("kind", ["masked", "class of a task", "encoder alone"])
def test_an_encoder_is_read_from_a_model_of_any_class(tmp_path, family, kind):
    tensors = foreign.write_folder(tmp_path / "whole", family)
    wanted = read_huggingface(tmp_path / "whole")
    if kind != "masked":
        tensors = without_heads(tensors, family, prefix=kind == "class of a task")
        if kind == "class of a task":
            tensors["classifier.weight"] = np.ones((3, 16), np.float32)
    foreign.write_folder(tmp_path / "other", family, tensors=tensors, architectures=["Any"])
    found = read_huggingface_encoder(tmp_path / "other")
    assert set(found.params) == {"embedding", "layers"}
    for branch, weights in found.params.items():
        jax.tree.map(np.testing.assert_array_equal, weights, wanted.params[branch])
    assert found.config == wanted.config and found.family == family
    assert found.tokenizer.fingerprint == wanted.tokenizer.fingerprint


def test_an_encoder_under_the_name_of_its_tied_copy_is_read(tmp_path):
    tensors = foreign.write_folder(tmp_path / "whole")
    wanted = read_huggingface(tmp_path / "whole").params["embedding"]
    table = tensors.pop("roberta.embeddings.word_embeddings.weight")
    foreign.write_folder(tmp_path / "other", tensors={**tensors, "lm_head.decoder.weight": table})
    found = read_huggingface_encoder(tmp_path / "other").params["embedding"]
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_the_pooler_comes_with_a_bert_and_with_no_other(tmp_path):
    tensors = foreign.write_folder(tmp_path / "bert", "bert", architectures=["BertForPreTraining"])
    found = read_huggingface_encoder(tmp_path / "bert")
    assert not found.config.next_sentence_head
    pooler = found.params["pooler"]
    np.testing.assert_array_equal(pooler["kernel"].T, tensors["bert.pooler.dense.weight"])
    np.testing.assert_array_equal(pooler["bias"], tensors["bert.pooler.dense.bias"])
    tensors = foreign.make_tensors(foreign.config_values("roberta"))
    tensors |= {
        "roberta.pooler.dense.weight": np.ones((16, 16), np.float32),
        "roberta.pooler.dense.bias": np.ones(16, np.float32),
    }
    foreign.write_folder(tmp_path / "roberta", tensors=tensors)
    assert "pooler" not in read_huggingface_encoder(tmp_path / "roberta").params


def test_an_encoder_that_is_not_whole_is_refused(tmp_path):
    tensors = foreign.make_tensors(foreign.config_values("roberta"))
    del tensors["roberta.encoder.layer.1.output.dense.bias"]
    foreign.write_folder(tmp_path, tensors=tensors)
    with pytest.raises(UserError, match="1 of the encoder are missing, roberta.encoder.layer.1"):
        read_huggingface_encoder(tmp_path)


# ---- Fine-tuned models --------------------------------------------------------------------------


def task_model(tmp_path, task="classification", num_outputs=3):
    foreign.write_folder(tmp_path / "in")
    model = read_huggingface(tmp_path / "in")
    head = TaskHead(task=task, num_outputs=num_outputs)
    zeros = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), weight_shapes(model.config, head)
    )
    return model, head, zeros


def test_a_fine_tuned_model_names_its_classes(tmp_path):
    model, head, params = task_model(tmp_path)
    (tmp_path / "out").mkdir()
    write_huggingface(
        tmp_path / "out",
        params,
        model.config,
        model.tokenizer,
        head=head,
        labels=("entailment", "neutral", "contradiction"),
    )
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    assert values["architectures"] == ["RobertaForSequenceClassification"]
    assert values["id2label"]["2"] == "contradiction"
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors["classifier.out_proj.weight"].shape == (3, 16)
    assert not [name for name in tensors if name.startswith("lm_head")]
    with pytest.raises(UserError, match="No weight is made up. A model with the head of a masked"):
        read_huggingface(tmp_path / "out")


@pytest.mark.parametrize(
    ("task", "num_outputs", "labels", "message"),
    [
        ("classification", 3, ("a", "b"), "labels are a, b; there must be 3 different ones"),
        ("tokens", 3, ("a", "b", "a"), "labels are a, b, a; there must be 3 different ones"),
        ("span", 2, ("first", "last"), "there must be 0 different ones"),
    ],
)
def test_labels_that_do_not_fit_the_head_are_refused(tmp_path, task, num_outputs, labels, message):
    model, head, params = task_model(tmp_path, task, num_outputs)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=message):
        write_huggingface(
            tmp_path / "out", params, model.config, model.tokenizer, head=head, labels=labels
        )
    assert list((tmp_path / "out").iterdir()) == []


# ---- What cannot be written ---------------------------------------------------------------------


def test_an_encoder_that_transformers_does_not_compute_is_refused(tmp_path):
    foreign.write_folder(tmp_path / "in")
    model = read_huggingface(tmp_path / "in")
    for offset, family in ((1, ""), (3, ""), (2, "bert"), (0, "roberta"), (0, "xlm-roberta")):
        model.config.position_offset = offset
        with pytest.raises(UserError, match=rf"position_offset is {offset}, .*pad_id \+ 1 = 2"):
            write_huggingface(tmp_path, model.params, model.config, model.tokenizer, family=family)


def test_other_types_are_refused(tmp_path):
    foreign.write_folder(tmp_path / "in")
    with pytest.raises(UserError, match="dtype is 'float16'; it must be one of float32, bfloat16"):
        export(read_huggingface(tmp_path / "in"), tmp_path / "out", dtype="float16")
    assert list((tmp_path / "out").iterdir()) == []


# ---- Bad folders --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    foreign.write_folder(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def test_every_missing_file_is_named(folder):
    for name, message in (
        ("model.safetensors", "has no weights: neither model.safetensors nor"),
        ("tokenizer.json", ""),  # vocab.json and merges.txt are enough.
        ("vocab.json", "has no tokenizer"),
        ("config.json", "config.json cannot be read"),
    ):
        (folder / name).unlink()
        if message:
            assert_refused(folder, str(folder), message)


def test_a_truncated_file_of_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(folder, str(path), "is no whole safetensors file")


def test_a_config_of_another_size(folder):
    foreign.write_config(folder, foreign.config_values("roberta", intermediate_size=25))
    assert_refused(folder, "roberta.encoder.layer.0.output.dense.weight", "asks for [16, 25]")


def test_a_config_of_another_architecture(folder):
    foreign.write_config(folder, foreign.config_values("roberta", model_type="camembert"))
    assert_refused(folder, "'camembert', which is not supported. Supported are roberta, xlm-rob")


def test_a_tokenizer_of_another_model(folder):
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    foreign.write_tokenizer(folder, "bert")
    assert_refused(folder, "pads with id 0, and the model with 1. They do not belong together")


def test_a_folder_that_is_none(tmp_path):
    assert_refused(tmp_path / "nowhere", "nowhere is no Hugging Face model", "No such file")


def test_which_folders_are_models_of_transformers(folder, tmp_path):
    assert is_huggingface_folder(folder)
    foreign.write_config(folder, {"architectures": ["BertForMaskedLM"]})
    assert is_huggingface_folder(folder)
    for content in ("{}", "[]", "3", "{", "", '{"encoder": {}}'):
        (folder / "config.json").write_text(content)
        assert not is_huggingface_folder(folder)
    assert not is_huggingface_folder(tmp_path / "nowhere")
    assert not is_huggingface_folder(folder / "config.json")
