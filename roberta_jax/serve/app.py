"""The paths of the page, and one answer at a time from the model."""

import asyncio
import json
import string
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from roberta_jax.errors import UserError
from roberta_jax.serve import answers
from roberta_jax.serve.guard import HEADERS, Guard, refused

if TYPE_CHECKING:
    from roberta_jax.inference.model import Model

MAX_BODY_BYTES = 64 * 1024
EXAMPLE = "He walked out of the <mask> and shut the door."
# Files of the page besides page.html, and what they are.
FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "attention.js": "text/javascript",
    "candidates.js": "text/javascript",
    "drawing.js": "text/javascript",
    "probabilities.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(model: "Model", name: str, *, host: str = "127.0.0.1") -> Starlette:
    """The page and its API.

    Args:
      model: what is asked.
      name: what the page calls it.
      host: the address or name that the server listens on.

    Returns:
      An ASGI app: GET / is the page; POST /api/fill_mask, /api/attention and /api/score take and
      give JSON, as `answers` has it. What cannot be answered has `error`, a paragraph.
    """
    turn = asyncio.Lock()
    # Its one thread keeps computing for a request that was given up; the next one waits for it.
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def api(answer: Callable[["Model", answers.Fields], answers.Fields]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            fields = await _fields(request)
            async with turn:
                if await request.is_disconnected():  # While it waited: the page asks anew.
                    raise ClientDisconnect
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(worker, answer, model, fields)
            return Response(json.dumps(result, allow_nan=False), media_type="application/json")

        return endpoint

    return Starlette(
        routes=[
            Route("/", _sent(_page(model, name), "text/html")),
            *(Route(f"/{file}", _sent(_read(file), kind)) for file, kind in FILES.items()),
            Route("/api/fill_mask", api(answers.fill_mask), methods=["POST"]),
            Route("/api/attention", api(answers.attention), methods=["POST"]),
            Route("/api/score", api(answers.score), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={
            UserError: _user_error,
            HTTPException: _http_error,
            ClientDisconnect: _nobody,
            Exception: _failure,
        },
    )


def _read(file: str) -> str:
    return (resources.files("roberta_jax.serve") / "page" / file).read_text(encoding="utf-8")


def _page(model: "Model", name: str) -> str:
    facts = {
        "name": name,
        "step": f"step {model.step:,}" if model.step else "not trained here",
        "layers": model.config.num_layers,
        "heads": model.config.num_heads,
        "max_tokens": f"{model.max_tokens:,}",
        "mask": model.tokenizer.mask_token,
        "example": EXAMPLE,
    }
    page = string.Template(_read("page.html"))
    return page.substitute({key: escape(str(value)) for key, value in facts.items()})


def _sent(content: str, kind: str) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        del request
        return Response(content, media_type=kind)

    return endpoint


async def _fields(request: Request) -> answers.Fields:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(
                413, f"The text is too long: a request may have {MAX_BODY_BYTES // 1024} KiB."
            )
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError("The request is not JSON.") from error
    if not isinstance(fields, dict):
        raise UserError("The request must be a JSON object.")
    return fields


def _user_error(request: Request, error: Exception) -> Response:
    del request
    return refused(str(error), 400)


def _http_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    response = refused(error.detail, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _nobody(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=400)  # Read by nobody.


def _failure(request: Request, error: Exception) -> Response:
    # Starlette raises the error again, so that the server logs it.
    del request, error
    response = refused("The server failed at this; its terminal says why.", 500)
    response.headers.update(HEADERS)
    return response
