import pytest

from roberta_jax.wording import count_of


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2000, ("row",), "2,000 rows"),
        (1.0, ("epoch",), "1 epoch"),
        (0.5, ("epoch",), "0.5 epochs"),
        (10.0, ("epoch",), "10 epochs"),
        (1, ("row is", "rows are"), "1 row is"),
        (0, ("row is", "rows are"), "0 rows are"),
    ],
)
def test_one_is_singular_and_all_else_is_plural(number, words, text):
    assert count_of(number, *words) == text
