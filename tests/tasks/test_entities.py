"""Entities as conlleval has them."""

import pytest

from roberta_jax.tasks.entities import entities, entity_scores

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def classes(words, labels=BIO):
    return [labels.index(word) for word in words.split()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("O O O", []),
        ("B-PER I-PER O", [("PER", 0, 2)]),
        ("O I-PER I-PER", [("PER", 1, 3)]),  # An I- after O begins one.
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),  # So does an I- of another type.
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("I-LOC B-LOC O B-LOC", [("LOC", 0, 1), ("LOC", 1, 2), ("LOC", 3, 4)]),
        ("I-PER", [("PER", 0, 1)]),
    ],
)
def test_entities_of_bio_labels(words, found):
    assert entities(classes(words), BIO) == found


def test_labels_that_mark_ends_and_single_words():
    labels = ("O", "B-X", "I-X", "E-X", "S-X")
    words = classes("B-X I-X E-X E-X S-X I-X O S-X S-X", labels)
    spans = [(first, end) for _, first, end in entities(words, labels)]
    assert spans == [(0, 3), (3, 4), (4, 5), (5, 6), (7, 8), (8, 9)]


def test_without_prefixes_neighbours_of_one_type_are_one_entity():
    labels = ("O", "PER", "LOC")
    words = classes("PER PER LOC O LOC", labels)
    assert entities(words, labels) == [("PER", 0, 2), ("LOC", 2, 3), ("LOC", 4, 5)]


def test_without_an_outside_label_every_word_counts():
    labels = ("NOUN", "VERB")
    truth, predicted = [[0, 0, 1, 0]], [[0, 1, 1, 0]]
    assert len(entities(truth[0], labels)) == 4
    assert entity_scores(truth, predicted, labels) == (0.75, 0.75, 0.75)


def test_precision_recall_and_f1_over_all_sentences():
    truth = [classes("B-PER I-PER O B-LOC"), classes("B-LOC O")]
    # Right; too short; missed; one that is not there.
    predicted = [classes("B-PER O O B-LOC"), classes("O B-PER")]
    precision, recall, f1 = entity_scores(truth, predicted, BIO)
    assert (precision, recall) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert f1 == pytest.approx(1 / 3)
    predicted[1] = classes("B-LOC O")
    assert entity_scores(truth, predicted, BIO) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert entity_scores(truth, [classes("O O O O"), classes("B-LOC O")], BIO) == pytest.approx(
        (1, 1 / 3, 0.5)
    )


def test_a_stray_i_is_the_entity_that_a_b_would_be():
    assert entity_scores([classes("B-PER I-PER")], [classes("I-PER I-PER")], BIO) == (1, 1, 1)


def test_nothing_to_count_is_zero():
    assert entity_scores([classes("O O")], [classes("O O")], BIO) == (0, 0, 0)
