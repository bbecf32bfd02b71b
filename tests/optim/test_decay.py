import dataclasses

import jax
import pytest

from roberta_jax.config import EncoderConfig, OptimizerConfig
from roberta_jax.encoder.model import abstract_params
from roberta_jax.errors import UserError
from roberta_jax.optim.decay import DECAY_TABLES, decay_mask, decays
from roberta_jax.parallel.tables import path_name

CONFIG = EncoderConfig(vocab_size=50_265)
NOT_IN_BERT = {
    *(f"{module}/bias" for module in ("embedding/norm", "head/dense", "head/norm")),
    *(f"{module}/scale" for module in ("embedding/norm", "head/norm")),
    "head/bias",
    *(f"layers/attention/{name}/bias" for name in ("query", "key", "value", "out")),
    *(f"layers/mlp/{name}/bias" for name in ("up", "down")),
    *(
        f"layers/{norm}/{leaf}"
        for norm in ("attention_norm", "mlp_norm")
        for leaf in ("scale", "bias")
    ),
}
IN_BERT = {
    *(f"embedding/{table}/embedding" for table in ("token", "position")),
    *(f"layers/attention/{name}/kernel" for name in ("query", "key", "value", "out")),
    *(f"layers/mlp/{name}/kernel" for name in ("up", "down")),
    "head/dense/kernel",
}


def named(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def test_bert_decays_kernels_and_tables_but_neither_biases_nor_layer_norm():
    mask = named(decay_mask(abstract_params(CONFIG), "bert"))
    assert {name for name, value in mask.items() if value} == IN_BERT
    assert {name for name, value in mask.items() if not value} == NOT_IN_BERT
    assert {type(value) for value in mask.values()} == {bool}


def test_fairseq_decays_everything():
    mask = named(decay_mask(abstract_params(CONFIG), "fairseq"))
    assert set(mask) == IN_BERT | NOT_IN_BERT
    assert all(value is True for value in mask.values())


@pytest.mark.parametrize("layer", ["dense", "projection"])
@pytest.mark.parametrize(("leaf", "in_bert"), [("kernel", True), ("bias", False)])
def test_the_head_of_the_next_sentence_is_covered(layer, leaf, in_bert):
    params = {"next_sentence_head": {layer: {leaf: 0}}}
    name = f"next_sentence_head/{layer}/{leaf}"
    assert named(decay_mask(params, "bert")) == {name: in_bert}
    assert named(decay_mask(params, "fairseq")) == {name: True}


def test_the_mask_has_the_structure_of_the_parameters():
    params = abstract_params(CONFIG)
    assert jax.tree.structure(decay_mask(params, "bert")) == jax.tree.structure(params)


@pytest.mark.parametrize("table", DECAY_TABLES)
@pytest.mark.parametrize(
    "name", ["embedding/token/table", "head/bias_of_the_head", "rebias", "layers/kernel/moment", ""]
)
def test_a_path_that_no_row_covers_is_an_error_that_names_it(table, name):
    with pytest.raises(KeyError, match=f"{table}.*{name}"):
        decays(name, table)


def test_a_scale_outside_layer_norm_is_not_taken_for_one():
    with pytest.raises(KeyError, match="head/temperature/scale"):
        decays("head/temperature/scale", "bert")


@pytest.mark.parametrize("table", DECAY_TABLES)
def test_every_row_of_a_table_is_the_first_for_some_parameter(table, monkeypatch):
    names = named(abstract_params(CONFIG))
    rows = DECAY_TABLES[table]
    for without in range(len(rows)):
        fewer = (*rows[:without], *rows[without + 1 :])
        monkeypatch.setitem(DECAY_TABLES, table, fewer)
        with pytest.raises(KeyError):
            for name in names:
                decays(name, table)


def test_every_table_can_be_chosen_in_the_config():
    for table in DECAY_TABLES:
        dataclasses.replace(OptimizerConfig(), decay_table=table).validate()
    with pytest.raises(UserError, match="one of " + ", ".join(DECAY_TABLES)):
        dataclasses.replace(OptimizerConfig(), decay_table="none").validate()
