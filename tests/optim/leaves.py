"""Parameters and gradients of a small model as flat dicts; the optimizers in NumPy."""

import math

import jax
import numpy as np

# As stacked and named in the model; (shape, size of the gradients, decays in the table of bert).
LEAVES = {
    "embedding/token/embedding": ((6, 4), 1.0, True),
    "layers/mlp/up/kernel": ((2, 4, 5), 1e-6, True),  # As small as epsilon, so that it shows.
    "layers/mlp/up/bias": ((2, 5), 0.1, False),
    "layers/mlp_norm/scale": ((2, 4), 1e-3, False),
    "head/bias": ((6,), 10.0, False),
}


def nested(flat):
    tree = {}
    for name, leaf in flat.items():
        *folders, last = name.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = leaf
    return tree


def flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def draw(seed, scaled):
    source = np.random.Generator(np.random.Philox(key=seed))
    return {
        name: np.float32((size if scaled else 1.0) * source.standard_normal(shape))
        for name, (shape, size, _) in LEAVES.items()
    }


def gradients(num_steps):
    """One per step; some with a norm of about 30, some of about 0.3."""
    return [
        {
            name: leaf * np.float32(1 if step % 3 else 0.01)
            for name, leaf in draw(step, True).items()
        }
        for step in range(num_steps)
    ]


def unstacked(leaves):
    """Leaves under layers/ as one leaf per layer, layer_0/…, layer_1/…"""
    split = {}
    for name, leaf in leaves.items():
        if name.startswith("layers/"):
            split |= {
                name.replace("layers/", f"layer_{number}/"): part
                for number, part in enumerate(leaf)
            }
        else:
            split[name] = leaf
    return split


def steps_of_numpy(config, params, gradients, rates):
    """AdamW (Loshchilov and Hutter, algorithm 2) and LAMB (arXiv 1904.00962, algorithm 2).

    In float64; yields the parameters after each step.
    """
    params = {name: leaf.astype(np.float64) for name, leaf in params.items()}
    first = {name: np.zeros(leaf.shape) for name, leaf in params.items()}
    second = {name: np.zeros(leaf.shape) for name, leaf in params.items()}
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        gradient = {name: leaf.astype(np.float64) for name, leaf in gradient.items()}
        norm = math.sqrt(sum((leaf**2).sum() for leaf in gradient.values()))
        shrink = min(1.0, config.clip_global_norm / norm)
        params = dict(params)
        for name in params:
            g = gradient[name] * shrink
            first[name] = config.beta1 * first[name] + (1 - config.beta1) * g
            second[name] = config.beta2 * second[name] + (1 - config.beta2) * g * g
            m, v = first[name], second[name]
            if config.bias_correction:
                m = m / (1 - config.beta1 ** (step + 1))
                v = v / (1 - config.beta2 ** (step + 1))
            update = m / (np.sqrt(v) + config.epsilon)
            decays = LEAVES[name][2]
            if decays or config.decay_table == "fairseq":
                update = update + config.weight_decay * params[name]
            if decays and config.kind == "lamb":
                update = with_ratio(name, update, params[name])
            params[name] = params[name] - rate * update
        yield params


def with_ratio(name, update, weights):
    if name.startswith("layers/"):
        layers = [with_ratio("", *layer) for layer in zip(update, weights, strict=True)]
        return np.stack(layers)
    return update * np.linalg.norm(weights) / np.linalg.norm(update)
