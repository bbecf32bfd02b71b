import io

from roberta_jax.data import progress
from roberta_jax.data.progress import Progress


class Clock:
    def __init__(self, monkeypatch):
        self.seconds = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.seconds)


def test_a_plain_line_comes_every_few_seconds(monkeypatch):
    clock = Clock(monkeypatch)
    stream = io.StringIO()
    with Progress("preparing", 1000, stream=stream) as shown:
        for done in range(0, 600, 100):
            shown.update(done, done * 10**5, f"{done} documents")
            clock.seconds += 2
    assert stream.getvalue() == "preparing   30%  5.0 MB/s  300 documents  0:14 left\n"


def test_the_time_left_has_hours(monkeypatch):
    clock = Clock(monkeypatch)
    stream = io.StringIO()
    with Progress("preparing", 1000, stream=stream) as shown:
        clock.seconds += 100
        shown.update(10, 10**6, "")
        clock.seconds += 100
        shown.update(0, 0, "")
    assert "2:45:00 left" in stream.getvalue()
    assert "time left unknown" in stream.getvalue()


def test_a_terminal_gets_one_live_line(monkeypatch):
    clock = Clock(monkeypatch)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("preparing", 1000, stream=stream) as shown:
        clock.seconds += 1
        shown.update(500, 10**6, "5 documents")
    assert "preparing   50%" in stream.getvalue()
    assert "\x1b[2K" in stream.getvalue()  # The line is erased in the end.
