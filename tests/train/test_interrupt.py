"""The first signal is a wish, the second one acts."""

import signal

import pytest

from roberta_jax.train.interrupt import InterruptWish

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def handlers():
    """Handlers of our own, so that a signal that acts does not end the tests."""
    calls = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: calls.append(number))
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_sets_the_wish_and_the_second_acts(handlers, number):
    with InterruptWish() as wish:
        assert not wish.requested
        signal.raise_signal(number)
        assert wish.requested and handlers == []
        signal.raise_signal(number)
        assert handlers == [number]


def test_a_second_signal_of_the_other_kind_acts_too(handlers):
    with InterruptWish():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert handlers == [signal.SIGTERM]


def test_control_c_pressed_twice_raises():
    with pytest.raises(KeyboardInterrupt), InterruptWish() as wish:
        signal.raise_signal(signal.SIGINT)
        assert wish.requested
        signal.raise_signal(signal.SIGINT)


def test_the_signals_are_given_back_whatever_happens(handlers):
    before = [signal.getsignal(number) for number in SIGNALS]
    with InterruptWish():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(RuntimeError), InterruptWish():
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before
