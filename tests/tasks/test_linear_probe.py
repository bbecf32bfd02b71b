"""Scores of a linear model on given features, against scikit-learn, scipy and the formulas."""

import numpy as np
import pytest
import scipy.stats
import sklearn.linear_model
import sklearn.metrics

from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import TextExample
from roberta_jax.tasks.linear_probe import linear_scores
from roberta_jax.tasks.task import Task

MOODS = Task(
    name="t",
    title="moods",
    kind="classification",
    labels=("bad", "good", "odd"),
    scores=("accuracy", "macro_f1", "matthews"),
)
TWO = Task(name="t", title="two", kind="classification", labels=("no", "yes"))
STARS = Task(name="t", title="stars", kind="regression", scale=2.0, shift=3.0)
NUM_TRAIN, NUM_DEV, WIDTH = 90, 50, 6
# What scikit-learn 1.9.1 and scipy gave of `made_up`, called without this package.
GOLDEN_MOODS = {
    "accuracy": 0.72,
    "macro_f1": 0.6770662287903667,
    "matthews": 0.5266479663394109,
}
GOLDEN_STARS = {"pearson": 0.8048947161923384, "spearman": 0.8321248499399759}


def examples(labels):
    return [TextExample(str(place), ("x",), label) for place, label in enumerate(labels)]


def made_up(task, *, noise=1.0, seed=0):
    """((features, labels) of train and of dev): columns of sizes far apart, classes overlap."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    count = NUM_TRAIN + NUM_DEV
    plain = generator.normal(size=(count, WIDTH))
    directions = generator.normal(size=(WIDTH, max(len(task.labels), 1)))
    known = plain @ directions + noise * generator.normal(size=(count, directions.shape[1]))
    labels = known.argmax(axis=1).tolist() if task.labels else (2 * known[:, 0] + 3).tolist()
    sizes = 10.0 ** np.arange(-2, WIDTH - 2)
    features = (plain * sizes + 5 * sizes).astype(np.float32)
    return (features[:NUM_TRAIN], labels[:NUM_TRAIN]), (features[NUM_TRAIN:], labels[NUM_TRAIN:])


def found_by(task, train, dev):
    return linear_scores(task, (train[0], examples(train[1])), (dev[0], examples(dev[1])))


def standardised(train, dev):
    """Both by mean and deviation of train, in float64."""
    train, dev = train.astype(np.float64), dev.astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / deviation, (dev - mean) / deviation


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_those_of_scikit_learn_s_logistic_regression(seed):
    train, dev = made_up(MOODS, noise=2.0, seed=seed)
    seen, asked = standardised(train[0], dev[0])
    model = sklearn.linear_model.LogisticRegression(C=1.0, max_iter=200).fit(seen, train[1])
    predicted = model.predict(asked)
    assert found_by(MOODS, train, dev) == {
        "accuracy": pytest.approx(np.mean(predicted == dev[1]), abs=1e-12),
        "macro_f1": pytest.approx(
            sklearn.metrics.f1_score(dev[1], predicted, average="macro"), abs=1e-12
        ),
        "matthews": pytest.approx(sklearn.metrics.matthews_corrcoef(dev[1], predicted), abs=1e-12),
    }


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_those_of_the_formula_of_ridge_regression(seed):
    train, dev = made_up(STARS, seed=seed)
    seen, asked = standardised(train[0], dev[0])
    mean = np.mean(train[1])
    weights = np.linalg.solve(seen.T @ seen + np.eye(WIDTH), seen.T @ (np.array(train[1]) - mean))
    predicted = asked @ weights + mean
    direct = sklearn.linear_model.Ridge(alpha=1.0).fit(seen, train[1]).predict(asked)
    np.testing.assert_allclose(predicted, direct, rtol=1e-9)
    assert found_by(STARS, train, dev) == {
        "pearson": pytest.approx(scipy.stats.pearsonr(dev[1], predicted)[0], abs=1e-9),
        "spearman": pytest.approx(scipy.stats.spearmanr(dev[1], predicted)[0], abs=1e-9),
    }


def test_golden_scores():
    found = found_by(MOODS, *made_up(MOODS, noise=2.0))
    assert found == pytest.approx(GOLDEN_MOODS, abs=1e-9)
    assert found_by(STARS, *made_up(STARS)) == pytest.approx(GOLDEN_STARS, abs=1e-7)


@pytest.mark.parametrize("task", [MOODS, STARS], ids=["classes", "numbers"])
def test_neither_the_unit_of_a_feature_nor_the_order_of_dev_matters(task):
    train, dev = made_up(task)
    first = found_by(task, train, dev)
    factors, shifts = np.array([3, 0.5, -7, 1, 100, 0.01]), np.arange(WIDTH) * 10
    order = np.random.default_rng(0).permutation(NUM_DEV)
    moved = found_by(
        task,
        (train[0] * factors + shifts, train[1]),
        ((dev[0] * factors + shifts)[order], [dev[1][place] for place in order]),
    )
    assert moved == pytest.approx(first, abs=1e-6)


def test_what_a_line_can_tell_apart_is_told_and_what_is_shuffled_is_chance():
    generator = np.random.Generator(np.random.Philox(key=4))
    labels = np.arange(600) % 2
    features = generator.normal(size=(600, 8))
    features[:, 3] += 8 * labels
    half = slice(0, 300), slice(300, 600)
    train, dev = ((features[part], labels[part].tolist()) for part in half)
    assert found_by(TWO, train, dev)["accuracy"] == 1
    # 300 coins fall within 0.09 of a half (three deviations) all but once in 370 times.
    shuffled = generator.permutation(train[1]).tolist()
    coins = generator.permutation(dev[1]).tolist()
    assert abs(found_by(TWO, (train[0], shuffled), (dev[0], coins))["accuracy"] - 0.5) < 0.09
    # Rows that do not stand beside their labels are the same as shuffled ones.
    assert abs(found_by(TWO, train, (dev[0], coins))["accuracy"] - 0.5) < 0.09
    constant = np.ones_like(features)
    assert found_by(TWO, (constant[half[0]], train[1]), (constant[half[1]], dev[1])) == {
        "accuracy": 0.5,
        "macro_f1": pytest.approx(1 / 3),
    }


@pytest.mark.filterwarnings("error")
def test_a_fit_that_takes_more_rounds_is_used_as_it_is(monkeypatch):
    monkeypatch.setattr("roberta_jax.tasks.linear_probe._ROUNDS", 1)
    train, dev = made_up(MOODS, noise=0.1)
    assert 0.4 < found_by(MOODS, train, dev)["accuracy"] < 1


def test_what_cannot_be_fitted_is_told():
    train, dev = made_up(TWO)
    with pytest.raises(UserError, match=r"takes classification and regression.*kind span"):
        found_by(Task(name="t", title="spans", kind="span"), train, dev)
    one_class = (train[0], [1] * NUM_TRAIN)
    with pytest.raises(UserError, match=r"90 training examples of two, all of the class 'yes'"):
        found_by(TWO, one_class, dev)
