import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.encoder.model import abstract_params
from roberta_jax.encoder.task_model import (
    TASKS,
    TaskHead,
    abstract_task_params,
    bind_task,
    init_task_params,
)
from roberta_jax.parallel.tables import path_name, spec_of
from tests.encoder import reference
from tests.encoder.tiny import CONFIG, WITHOUT_DROPOUT, random_like, random_tokens, wide

HEADS = {
    "classification": TaskHead(task="classification", num_outputs=3, dropout_rate=0.5),
    "choice": TaskHead(task="choice", num_outputs=1, dropout_rate=0.5),
    "span": TaskHead(task="span", num_outputs=2, dropout_rate=0.5),
    "tokens": TaskHead(task="tokens", num_outputs=5, dropout_rate=0.5),
}
KEYS = jnp.array([11, 22, 33], jnp.uint32)


def weights(task):
    return random_like(abstract_task_params(CONFIG, HEADS[task]), 3)


def scores(task, params, tokens, keys=None, config=CONFIG):
    run = jax.jit(lambda params: bind_task(config, HEADS[task], params)(tokens, keys))
    return np.asarray(run(params))


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_the_formula(task):
    params, tokens = weights(task), random_tokens(2)
    states = reference.states(wide(params), tokens, CONFIG.num_heads)
    head = wide(params["head"])
    if task in ("classification", "choice"):
        pooled = np.tanh(reference.linear(states[:, 0], head["dense"]))
        expected = reference.linear(pooled, head["projection"])
    else:
        expected = reference.linear(states, head["projection"])
    found = scores(task, params, tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("task", "offset", "dropped"),
    [
        ("classification", 2, 2),
        ("classification", 0, 1),  # BERT's pooler has none before it.
        ("choice", 2, 1),
        ("span", 2, 0),
        ("tokens", 2, 1),
    ],
)
def test_dropout_of_the_head_is_where_transformers_has_it(task, offset, dropped):
    still = dataclasses.replace(CONFIG, **WITHOUT_DROPOUT, position_offset=offset)
    text = str(
        jax.make_jaxpr(
            lambda params: bind_task(still, HEADS[task], params)(random_tokens(2), KEYS)
        )(weights(task))
    )
    assert len(re.findall(r"name=_dropout\b", text)) == dropped


def test_an_encoder_has_the_same_weights_with_any_head():
    language_model = abstract_params(CONFIG)
    for task in TASKS:
        shapes = abstract_task_params(CONFIG, HEADS[task])
        assert shapes["embedding"] == language_model["embedding"]
        assert shapes["layers"] == language_model["layers"]
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes):
            spec_of(path_name(path))


def test_initial_weights_are_a_function_of_the_key():
    first, same, other = (
        init_task_params(CONFIG, HEADS["span"], jax.random.key(seed)) for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, same)
    kernel = [params["head"]["projection"]["kernel"] for params in (first, other)]
    assert not np.array_equal(*kernel)


@pytest.mark.parametrize(("task", "outputs"), [("choice", 2), ("span", 3), ("tokens", 0)])
def test_a_head_that_cannot_be_is_refused(task, outputs):
    with pytest.raises(ValueError, match="num_outputs"):
        TaskHead(task=task, num_outputs=outputs)
    with pytest.raises(ValueError, match="task is 'x'"):
        TaskHead(task="x", num_outputs=1)
