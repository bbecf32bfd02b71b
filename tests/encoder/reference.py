"""The encoder in NumPy and float64, without flax and without jax, and a tiny model to compare.

`drop(x, *sites)` stands for dropout at a site of the network: (0,) is the embedding's, (1 + depth,
0 | 1 | 2) a layer's attention probabilities, attention output and MLP output.
"""

import functools
import math

import jax
import numpy as np

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import keep_mask, site_keys
from roberta_jax.encoder.model import bind, init_params

PAD = 1

# 50 entries in a table of 56 rows; every size differs from the others where that can be.
CONFIG = EncoderConfig(
    vocab_size=50,
    vocab_padding_multiple=8,
    num_layers=2,
    hidden_size=32,
    num_heads=4,
    mlp_size=48,
    max_positions=16,
    dropout_rate=0.1,
    attention_dropout_rate=0.25,
    compute_dtype="float32",
)

erf = np.vectorize(math.erf, otypes=[np.float64])


def generator(seed):
    return np.random.Generator(np.random.Philox(key=seed))


def random_like(tree, seed, scale=0.2):
    """Every leaf moved by normal(0, scale): biases and padding rows too, so that all counts."""
    source = generator(seed)
    return jax.tree.map(
        lambda leaf: np.float32(np.asarray(leaf) + scale * source.standard_normal(leaf.shape)),
        tree,
    )


@functools.cache
def initial_params():
    return jax.jit(lambda: init_params(CONFIG, jax.random.key(0)))()


def random_params(seed=0):
    """Weights of a `CONFIG` model as NumPy arrays that a test may change."""
    return random_like(initial_params(), seed)


def random_tokens(seed, num_rows=3, length=16, paddings=(0, 5, 1)):
    """Rows of ordinary tokens of which the last ones, as many as `paddings` says, are padding."""
    tokens = generator(seed).integers(4, CONFIG.vocab_size - 1, (num_rows, length), np.int32)
    for row, padding in zip(tokens, paddings, strict=False):
        row[length - padding :] = PAD
    return tokens


def wide(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def model_states(config):
    return jax.jit(lambda params, tokens, keys=None: bind(config, params).states(tokens, keys))


def model_logits(config):
    return jax.jit(
        lambda params, tokens, positions, keys=None: bind(config, params)(tokens, positions, keys)
    )


def unchanged(x, *sites):
    return x


def dropped(keys, config):
    """The `drop` that the model applies with these row keys."""

    def drop(x, *sites):
        on_attention = sites[1:] == (0,)
        rate = config.attention_dropout_rate if on_attention else config.dropout_rate
        at_site = keys
        for site in sites:
            at_site = site_keys(at_site, site)
        return x * np.asarray(keep_mask(at_site, x.shape, rate)) / (1 - rate)

    return drop


def gelu(x):
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def layer_norm(x, params):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * params["scale"] + params["bias"]


def softmax(scores):
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def linear(x, params):
    return x @ params["kernel"] + params["bias"]


def position_ids(tokens):
    ids = np.full(tokens.shape, PAD)
    for row, row_ids in zip(tokens, ids, strict=True):
        following = 2
        for place, token in enumerate(row):
            if token != PAD:
                row_ids[place] = following
                following += 1
    return ids


def attention(x, real, params, num_heads, drop=unchanged):
    rows, length, width = x.shape

    def heads(name):
        return linear(x, params[name]).reshape(rows, length, num_heads, -1).transpose(0, 2, 1, 3)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // num_heads)
    weights = softmax(np.where(real[:, None, None, :], scores, -np.inf))
    attended = (drop(weights) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
    return linear(attended, params["out"])


def layer(x, real, params, num_heads, drop=unchanged):
    attended = attention(x, real, params["attention"], num_heads, lambda w: drop(w, 0))
    x = layer_norm(x + drop(attended, 1), params["attention_norm"])
    hidden = gelu(linear(x, params["mlp"]["up"]))
    return layer_norm(x + drop(linear(hidden, params["mlp"]["down"]), 2), params["mlp_norm"])


def embed(tokens, params, drop=unchanged):
    x = params["token"]["embedding"][tokens]
    x = x + params["position"]["embedding"][position_ids(tokens)]
    return drop(layer_norm(x, params["norm"]), 0)


def states(params, tokens, num_heads, drop=unchanged):
    """Hidden states [B, T, D] of float64 params."""
    x = embed(tokens, params["embedding"], drop)
    for depth in range(params["layers"]["mlp"]["up"]["bias"].shape[0]):
        x = layer(
            x,
            tokens != PAD,
            jax.tree.map(lambda leaf, depth=depth: leaf[depth], params["layers"]),
            num_heads,
            lambda y, site, depth=depth: drop(y, depth + 1, site),
        )
    return x


def head(chosen, params, table, vocab_size):
    x = layer_norm(gelu(linear(chosen, params["dense"])), params["norm"])
    logits = x @ table.T + params["bias"]
    logits[..., vocab_size:] = -np.inf
    return logits


def logits(params, tokens, positions, config, drop=unchanged):
    """Logits [B, M, V] of float64 params at chosen positions."""
    x = states(params, tokens, config.num_heads, drop)
    chosen = np.take_along_axis(x, positions[..., None], axis=1)
    table = params["embedding"]["token"]["embedding"]
    return head(chosen, params["head"], table, config.vocab_size)
