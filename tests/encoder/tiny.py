"""A tiny model with weights and rows at random; and its modules as functions of their weights."""

import functools

import jax
import numpy as np
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import keep_mask, site_keys
from roberta_jax.encoder.model import bind, init_params
from tests.encoder.reference import PAD

# 50 entries in a table of 56 rows; every size differs from the others where that can be.
CONFIG = EncoderConfig(
    vocab_size=50,
    vocab_padding_multiple=8,
    num_layers=2,
    hidden_size=32,
    num_heads=4,
    mlp_size=48,
    max_positions=16,
    embedding_dropout_rate=0.15,
    dropout_rate=0.1,
    attention_dropout_rate=0.25,
    activation_dropout_rate=0.2,
    compute_dtype="float32",
)


def generator(seed):
    return np.random.Generator(np.random.Philox(key=seed))


def wide(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def random_like(shapes, seed):
    """Leaves normal(0, 0.2), biases and rows of padding too, so that all count; scales near 1."""
    source = generator(seed)

    def draw(path, leaf):
        middle = float(jax.tree_util.keystr(path[-1:], simple=True) == "scale")
        return np.float32(middle + 0.2 * source.standard_normal(leaf.shape))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@jax.jit
def params_of_seed(seed):
    return init_params(CONFIG, jax.random.key(seed))


@functools.cache
def initial_params():
    return params_of_seed(0)


def random_params(seed=0):
    """Weights of a `CONFIG` model as NumPy arrays that a test may change."""
    return random_like(initial_params(), seed)


def random_tokens(seed, num_rows=3, length=16, paddings=(0, 5, 1)):
    """Rows of ordinary tokens of which the last ones, as many as `paddings` says, are padding."""
    tokens = generator(seed).integers(4, CONFIG.vocab_size - 1, (num_rows, length), np.int32)
    for row, padding in zip(tokens, paddings, strict=False):
        row[length - padding :] = PAD
    return tokens


def functional(construct, call=lambda module, *inputs: module(*inputs)):
    """A module as weights at random and a function of (weights, *inputs)."""
    graphdef, state = nnx.split(jax.eval_shape(construct))

    def run(params, *inputs):
        nnx.replace_by_pure_dict(state, params)
        return call(nnx.merge(graphdef, state), *inputs)

    return random_like(nnx.to_pure_dict(state), 1), run


def initial_weights(construct):
    """The weights that a module starts with."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(construct())))()


def model_states(config):
    return jax.jit(lambda params, tokens, keys=None: bind(config, params).states(tokens, keys))


def model_logits(config):
    return jax.jit(
        lambda params, tokens, positions, keys=None: bind(config, params)(tokens, positions, keys)
    )


# No dropout at all.
WITHOUT_DROPOUT = dict.fromkeys(
    [
        *("embedding_dropout_rate", "dropout_rate", "attention_dropout_rate"),
        "activation_dropout_rate",
    ],
    0.0,
)


def dropped(keys, config, *, in_layer=False):
    """The `drop` of `reference` that the model, or a layer, applies with these row keys."""
    in_order = (
        *(config.attention_dropout_rate, config.dropout_rate, config.dropout_rate),
        config.activation_dropout_rate,
    )

    def drop(x, *sites):
        of_layer = in_layer or len(sites) == 2
        rate = in_order[sites[-1]] if of_layer else config.embedding_dropout_rate
        at_site = keys
        for site in sites:
            at_site = site_keys(at_site, site)
        return x * np.asarray(keep_mask(at_site, x.shape, rate)) / (1 - rate)

    return drop
