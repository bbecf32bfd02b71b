"""Weights of one model as the beginning of another."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import EncoderConfig, MeshConfig
from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.encoder.model import init_params
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import shardings
from roberta_jax.train.pretrain import pretrain
from roberta_jax.train.transfer import transfer
from tests.data.test_json_tokenizer import with_added_tokens
from tests.train import runs

SOURCE = EncoderConfig(
    vocab_size=300,
    vocab_padding_multiple=8,
    num_layers=2,
    hidden_size=16,
    num_heads=2,
    mlp_size=32,
    max_positions=12,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_bpe([runs.make_text()], 300)


@pytest.fixture(scope="module")
def other_tokenizer():
    """More entries, learnt from other text."""
    return train_byte_bpe([runs.make_text() + runs.make_text(seed=1).swapcase() * 3], 360)


def weights(config, seed):
    params = jax.jit(lambda: init_params(config, jax.random.key(seed)))()
    ids = jnp.arange(config.padded_vocab_size(), dtype=jnp.float32)
    params["head"]["bias"] = jnp.where(ids < config.vocab_size, ids + seed, 0)
    mesh = make_mesh(MeshConfig())
    return jax.device_put(params, shardings(params, mesh))


def moved(target, tokenizer, other, source=SOURCE):
    said = []
    old, new = weights(source, 1), weights(target, 2)
    found = transfer(
        old,
        new,
        source=source,
        target=target,
        source_tokenizer=tokenizer,
        target_tokenizer=other,
        say=said.append,
    )
    assert jax.tree.structure(found) == jax.tree.structure(new)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(new), strict=True):
        assert left.shape == right.shape and left.sharding.is_equivalent_to(
            right.sharding, left.ndim
        )
    return jax.device_get((old, new, found)), said


def token_table(params):
    return params["embedding"]["token"]["embedding"]


def test_the_same_model_is_taken_over_as_it_is(tokenizer):
    (old, _, found), said = moved(SOURCE, tokenizer, tokenizer)
    jax.tree.map(np.testing.assert_array_equal, found, old)
    assert said == []


def test_more_padding_rows_are_no_other_vocabulary(tokenizer):
    target = dataclasses.replace(SOURCE, vocab_padding_multiple=128)
    (old, new, found), said = moved(target, tokenizer, tokenizer)
    np.testing.assert_array_equal(token_table(found)[:300], token_table(old)[:300])
    np.testing.assert_array_equal(token_table(found)[300:], token_table(new)[300:])
    np.testing.assert_array_equal(found["head"]["bias"][:300], old["head"]["bias"][:300])
    assert said == []


def test_a_next_sentence_head_of_one_side_is_left_out_or_begins_as_drawn(tokenizer):
    pairs = dataclasses.replace(SOURCE, next_sentence_head=True)
    (old, _, found), said = moved(SOURCE, tokenizer, tokenizer, source=pairs)
    assert "next_sentence_head" in old and "next_sentence_head" not in found
    jax.tree.map(np.testing.assert_array_equal, found["layers"], old["layers"])
    assert said == ["the next-sentence head is left out"]
    (_, new, found), said = moved(pairs, tokenizer, tokenizer)
    jax.tree.map(
        np.testing.assert_array_equal, found["next_sentence_head"], new["next_sentence_head"]
    )
    assert said == ["the next-sentence head begins as drawn"]


@pytest.mark.parametrize("length", [12, 13, 30, 5])
def test_positions_repeat_those_of_the_source(tokenizer, length):
    target = dataclasses.replace(SOURCE, max_positions=length)
    (old, _, found), said = moved(target, tokenizer, tokenizer)
    table, longer = (params["embedding"]["position"]["embedding"] for params in (old, found))
    assert len(longer) == length + 2
    np.testing.assert_array_equal(longer[:2], table[:2])  # Of padding, and the unused one.
    for place in range(length):
        np.testing.assert_array_equal(longer[2 + place], table[2 + place % 12])
    wanted = {12: [], 5: ["cut"]}.get(length, ["repeated"])
    assert [line.split()[-1] for line in said] == wanted
    np.testing.assert_array_equal(token_table(found), token_table(old))


def test_tokens_of_both_vocabularies_keep_their_rows(tokenizer, other_tokenizer):
    target = dataclasses.replace(SOURCE, vocab_size=360)
    (old, new, found), said = moved(target, tokenizer, other_tokenizer)
    ids = {piece: number for number, piece in enumerate(tokenizer.pieces())}
    shared = 0
    for number, piece in enumerate(other_tokenizer.pieces()):
        begins_as = (old, ids[piece]) if piece in ids else (new, number)
        shared += piece in ids
        source, row = begins_as
        np.testing.assert_array_equal(token_table(found)[number], token_table(source)[row])
        assert found["head"]["bias"][number] == source["head"]["bias"][row]
    assert 261 < shared < 300  # All bytes and special tokens, and some words.
    assert found["head"]["bias"][359] == old["head"]["bias"][299]  # <mask> moved to the end.
    assert said == [
        f"another vocabulary: {shared} of its 360 entries are also in the old one and keep their "
        f"weights; {360 - shared} begin as drawn"
    ]
    jax.tree.map(np.testing.assert_array_equal, found["layers"], old["layers"])


def test_two_added_tokens_cost_no_other_its_row(tokenizer, tmp_path):
    other = with_added_tokens(tmp_path, tokenizer, "covid19", "<user>")
    target = dataclasses.replace(SOURCE, vocab_size=302)
    (old, new, found), said = moved(target, tokenizer, other)
    assert said[0].startswith("another vocabulary: 300 of its 302 entries are also in the old one")
    np.testing.assert_array_equal(token_table(found)[:300], token_table(old)[:300])
    np.testing.assert_array_equal(token_table(found)[300:302], token_table(new)[300:302])


def test_the_result_is_split_as_the_run_wants_it(tokenizer):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    old = jax.device_put(weights(SOURCE, 1), NamedSharding(mesh, P()))
    new = weights(SOURCE, 2)
    new = jax.device_put(new, shardings(new, mesh))
    found = transfer(
        old,
        new,
        source=SOURCE,
        target=SOURCE,
        source_tokenizer=tokenizer,
        target_tokenizer=tokenizer,
        say=print,
    )
    assert token_table(found).sharding.spec == token_table(new).sharding.spec != P()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(old))


# ---- In a run -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_on_other_text_begins_with_the_weights_of_another(complete, tmp_path, capsys):
    other = runs.make_dataset(tmp_path / "data", seed=1, vocab_size=320, sequence_length=48)
    config = runs.tiny_config(
        other, data__sequence_length=48, encoder__max_positions=48, train__duration="5 steps"
    )
    assert pretrain(config, tmp_path / "run", init_from=str(complete)) == 0
    said = capsys.readouterr().out
    assert f"starting from the weights of {complete}, step 20" in said
    assert "another vocabulary: " in said and "the position table is repeated" in said
    events = [event for _, event, _ in runs.events_of(tmp_path / "run")]
    assert events == ["started", "transferred", "transferred"]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["encoder"]
    assert (stored["vocab_size"], stored["max_positions"]) == (320, 48)


def test_what_begins_no_run_is_explained(complete, dataset, tmp_path):
    config = runs.tiny_config(dataset)
    folder = tmp_path / "huggingface"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(UserError, match=r"`roberta-jax import --model=.* makes a workdir of it"):
        pretrain(config, tmp_path / "new", init_from=str(folder))
    imported = runs.workdir_copy(complete, tmp_path / "imported")
    (imported / "origin.json").write_text("{}")
    with pytest.raises(UserError, match="no optimizer to go on with. Begin a run in another"):
        pretrain(config, imported)
    with pytest.raises(UserError, match="Set --config.encoder.pad_id=1"):
        pretrain(runs.tiny_config(dataset, encoder__pad_id=0), tmp_path / "new")
    assert not (tmp_path / "new").exists()
