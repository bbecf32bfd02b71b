"""The page around a body, its tables, and writing it."""

import os
from collections.abc import Sequence
from html import escape

from etils import epath

from roberta_jax.page.stylesheet import STYLESHEET


def document(title: str, body: str, *, refresh_seconds: int = 0) -> str:
    """A page.

    Args:
      title: plain text.
      body: HTML, in which everything that came from outside is escaped.
      refresh_seconds: how often a browser that shows the page loads it again; 0 is never.
    """
    refresh = (
        f'<meta http-equiv="refresh" content="{refresh_seconds}">\n' if refresh_seconds else ""
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>{escape(title)} · roberta_jax</title>
<style>{STYLESHEET}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), kind: str = "") -> str:
    """A table of plain text; the first cell of a row is its name.

    Args:
      rows: cells.
      head: names of the columns.
      kind: a class of the stylesheet.
    """
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    top = f"<thead><tr>{cells}</tr></thead>" if head else ""
    body = "\n".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(f"<td>{escape(each)}</td>" for each in values)
        + "</tr>"
        for name, *values in rows
    )
    return f'<div class="wide"><table class="{kind}">{top}<tbody>\n{body}\n</tbody></table></div>'


def write_whole(path: epath.Path, content: bytes) -> epath.Path:
    """Writes a file under a temporary name, then renames it; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
