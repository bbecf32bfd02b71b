"""From the command to Ctrl-C: socket, model, uvicorn."""

import contextlib
import errno
import ipaddress
import pathlib
import socket
import sys
import threading
import webbrowser

import uvicorn

import roberta_jax
from roberta_jax.errors import UserError
from roberta_jax.serve import answers
from roberta_jax.serve.app import EXAMPLE, make_app

# A browser opens six at most; what is more is refused.
MAX_CONNECTIONS = 64
# What an answer in the making is waited for at the end.
PATIENCE_SECONDS = 1
_UNUSABLE_HOST = (
    "The host {!r} cannot be listened on ({}). Give an address or name of this machine by --host."
)


def serve(
    model_path: str | pathlib.Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    open_browser: bool = False,
    step: int = -1,
) -> None:
    """Serves the page until a signal ends it, which then acts as it would have without the server.

    Args:
      model_path: a workdir, or a Hugging Face or fairseq folder.
      host: address or name to listen on.
      port: 0 takes any that is free.
      open_browser: shows the page.
      step: which checkpoint of a workdir; -1 for the newest.

    Raises:
      UserError: the host cannot be used, the port is taken, or the model cannot be loaded.
    """
    listener = listen(host, port)  # First: loading takes a while, and the port may be taken.
    with listener:
        address = listener.getsockname()
        print(f"Loading {model_path} ...", flush=True)
        model = roberta_jax.load(model_path, step=step)
        for ask in (answers.fill_mask, answers.attention, answers.score):
            # Compiles, so that the first visitor need not wait. The example may be too long.
            with contextlib.suppress(UserError):
                ask(model, {"text": EXAMPLE})
        name = str(model_path)
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(model, name, host=host),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=PATIENCE_SECONDS,
            )
        )
        if not ipaddress.ip_address(address[0]).is_loopback:
            print(
                f"roberta-jax: the page has no password and no encryption: everybody who reaches "
                f"{host} can use this model. Leave --host out to keep it on this machine.",
                file=sys.stderr,
            )
        url = url_of(host, address)
        print(f"{name} is at {url} until Ctrl-C.", flush=True)
        if open_browser:
            # A browser in the terminal would not return.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that already takes connections; UserError if there can be none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} of {host} is taken by another program. Give another one by --port, "
                "or --port=0 for any that is free."
            ) from error
        if error.errno == errno.EACCES:
            raise UserError(
                f"Port {port} may not be used by you. Give one above 1023 by --port."
            ) from error
        raise UserError(_UNUSABLE_HOST.format(host, error.strerror)) from error
    except UnicodeError as error:  # No name of a host is like that.
        raise UserError(_UNUSABLE_HOST.format(host, error)) from error


def url_of(host: str, address: tuple[str, int]) -> str:
    """Where a browser on this machine finds the page."""
    if ipaddress.ip_address(address[0]).is_unspecified:  # Every interface: this one is among them.
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{address[1]}/"
