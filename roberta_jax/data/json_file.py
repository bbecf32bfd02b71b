"""A file that is one JSON value, perhaps compressed."""

import json
from typing import Any

from roberta_jax.data.corpus import BYTE_ORDER_MARK
from roberta_jax.data.inputs import InputReader, Span, input_file
from roberta_jax.errors import UserError

_PART_BYTES = 1 << 20


def read_json(path: str) -> Any:
    """What the file holds.

    Raises:
      UserError: it cannot be read, is damaged, not UTF-8 or not JSON.
    """
    reader = InputReader(Span.whole(input_file(path)))
    content = b"".join(part for _, part in reader.lines(_PART_BYTES))
    try:
        text = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not valid UTF-8 at byte {error.start:,}. Convert the file, such as by "
            "iconv -t UTF-8."
        ) from error
    try:
        value = json.loads(text)
        # An escape can spell half a surrogate pair, which is no text.
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON, or cut off ({error}).") from error
    return value
