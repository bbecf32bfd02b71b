"""The server as a process: its lines, its port, its end."""

import errno
import http.client
import json
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from roberta_jax.errors import UserError
from roberta_jax.serve import server
from roberta_jax.serve.app import EXAMPLE
from tests.serve.stand_in import StandIn

ROOT = pathlib.Path(__file__).parents[2]
# The real command on a model without weights; on "slow" it thinks for a minute after its warm-up.
COMMAND = """
import sys, time
import roberta_jax
from roberta_jax.cli.main import entry_point
from tests.serve.stand_in import StandIn

class Slow(StandIn):
    def score_tokens(self, texts):
        if texts == ["slow"]:
            print("thinking", flush=True)
            time.sleep(60)
        return super().score_tokens(texts)

roberta_jax.load = lambda path, *, step: Slow()
sys.argv = ["roberta-jax", "serve", *sys.argv[1:]]
entry_point()
"""


@contextmanager
def served(*flags):
    """The process, when it has said where the page is; and that address."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--model=runs/small", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        assert line_of(process) == "Loading runs/small ...\n"
        line = line_of(process)
        found = re.fullmatch(r"runs/small is at (http://\S+/) until Ctrl-C\.\n", line)
        assert found, line or process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def line_of(process, seconds=60):
    assert select.select([process.stdout], [], [], seconds)[0], "It says nothing."
    return process.stdout.readline()


def port_of(url):
    return int(url.rsplit(":", 1)[1].rstrip("/"))


def post(url, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(url), timeout=30)
    with closing(connection):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_ends_with_one_line(number):
    with served("--port=0") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        status, answer = post(url, "/api/score", json.dumps({"text": "a b"}))
        assert status == 200 and len(answer["tokens"]) == 2
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "roberta-jax: interrupted\n")


def test_a_signal_does_not_wait_for_a_long_answer():
    with served("--port=0") as (process, url):

        def ask():
            with pytest.raises((http.client.HTTPException, OSError)):
                post(url, "/api/score", json.dumps({"text": "slow"}))

        asking = threading.Thread(target=ask)
        asking.start()
        assert line_of(process) == "thinking\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - begin < 10
        asking.join()
    assert process.returncode == 130 and out == ""
    assert err.endswith("roberta-jax: interrupted\n") and "Traceback" not in err


def test_a_body_without_length_is_cut_off_where_it_is_too_long():
    with served("--port=0") as (_, url):
        parts = (b"x" * 1024 for _ in range(80))
        with socket.create_connection(("127.0.0.1", port_of(url)), timeout=20) as connection:
            connection.sendall(
                b"POST /api/score HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for part in parts:
                connection.sendall(b"400\r\n" + part + b"\r\n")
            # The end of the body is never sent: the answer comes without it.
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert post(url, "/api/score", json.dumps({"text": "a"}))[0] == 200


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr("roberta_jax.load", lambda path, step: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"Port {port} of 127.0.0.1 is taken by another program. .*--port=0"
        with pytest.raises(UserError, match=message):
            server.serve("runs/small", port=port)


@pytest.mark.parametrize("host", ["192.0.2.7", "no host.invalid", "x" * 70, "a..b"])
def test_a_host_that_is_not_of_this_machine_is_a_user_error(monkeypatch, host):
    monkeypatch.setattr("roberta_jax.load", lambda path, step: pytest.fail("loaded"))
    with pytest.raises(UserError, match=f"The host '{host}' cannot be listened on"):
        server.serve("runs/small", host=host, port=0)


def test_a_port_of_the_system_is_a_user_error(monkeypatch):
    def refuse(address, *, family):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(UserError, match="Port 80 may not be used by you. Give one above 1023"):
        server.listen("127.0.0.1", 80)


class Recorded(StandIn):
    made: list["Recorded"] = []

    def __init__(self):
        super().__init__()
        self.made.append(self)


@pytest.fixture
def started(monkeypatch):
    """Lets `serve` come as far as its loop; the list has what it would have run."""
    runs = []
    monkeypatch.setattr("roberta_jax.load", lambda path, step: Recorded())
    monkeypatch.setattr(
        server.uvicorn.Server, "run", lambda self, sockets: runs.append((self, sockets))
    )
    return runs


def test_the_model_has_computed_everything_before_the_page_is_announced(started, capsys):
    server.serve("runs/small", port=0, step=7)
    assert Recorded.made[-1].texts == [EXAMPLE] * 3
    assert len(started) == 1
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("http://") == 1


def test_an_example_that_is_too_long_for_the_model_does_not_matter(started, monkeypatch):
    def refuse(self, *_):
        raise UserError("No <mask> is within the first 8 tokens of the text.")

    monkeypatch.setattr(Recorded, "fill_mask", refuse)
    server.serve("runs/small", port=0)
    assert len(started) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_everybody_may_come_is_said_plainly(started, capsys, host):
    server.serve("runs/small", host=host, port=0)
    said = capsys.readouterr()
    assert "no password" in said.err and said.err.count("\n") == 1
    assert re.search(r"http://localhost:\d+/", said.out)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_nothing_is_warned_of_on_this_machine(started, capsys, host):
    server.serve("runs/small", host=host, port=0)
    said = capsys.readouterr()
    assert said.err == "" and f"http://{host}:" in said.out


def test_the_browser_is_shown_the_address(started, monkeypatch, capsys):
    shown = threading.Event()
    urls = []
    monkeypatch.setattr(server.webbrowser, "open", lambda url: (urls.append(url), shown.set()))
    server.serve("runs/small", port=0)
    assert not shown.wait(0.2)
    server.serve("runs/small", port=0, open_browser=True)
    assert shown.wait(10)
    assert f"is at {urls[0]} until" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "address", "url"),
    [
        ("127.0.0.1", ("127.0.0.1", 80), "http://127.0.0.1:80/"),
        ("::1", ("::1", 8000), "http://[::1]:8000/"),
        ("::", ("::", 8000), "http://localhost:8000/"),
        ("box", ("192.0.2.7", 8000), "http://box:8000/"),
    ],
)
def test_the_address_is_one_that_a_browser_takes(host, address, url):
    assert server.url_of(host, address) == url
