"""The encoder in NumPy and float64, without flax and jax: what the tests compare with.

`drop(x, *sites)` stands for dropout at a site of the network: (0,) is the embedding's, (1 + depth,
0 | 1 | 2 | 3) a layer's attention probabilities, attention output, MLP output and activation.
"""

import math

import numpy as np

PAD = 1

erf = np.vectorize(math.erf, otypes=[np.float64])


def unchanged(x, *sites):
    return x


def at(tree, depth):
    """The leaves [L, …] of nested dicts at one layer."""
    return {
        name: at(branch, depth) if isinstance(branch, dict) else branch[depth]
        for name, branch in tree.items()
    }


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
    hidden = drop(gelu(linear(x, params["mlp"]["up"])), 3)
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
            at(params["layers"], depth),
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
