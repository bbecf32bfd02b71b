"""The page of a model on a real socket, served by a thread of this process."""

import threading
import time
from contextlib import contextmanager

import uvicorn

from roberta_jax.serve import server
from roberta_jax.serve.app import make_app


@contextmanager
def live(model, name="small"):
    """The port where the page is."""
    with server.listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            make_app(model, name), loop="asyncio", ws="none", lifespan="off", log_config=None
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: running.started)
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def wait_until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
