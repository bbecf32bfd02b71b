"""Prose that is on the machine anyway: what Python and the installed packages say about themselves.

`pydoc_data.topics` (chapters of the language reference) and the docstrings of the standard library
and of installed packages, read from their source files without importing them. Code, tables and
signatures are left out, so that what stays is English. Nothing is downloaded.
"""

import ast
import hashlib
import importlib.util
import inspect
import os
import pathlib
import re
import sysconfig
import warnings
from collections.abc import Iterator

from roberta_jax.data.corpus import Document
from roberta_jax.data.sentences import by_punctuation
from roberta_jax.errors import MachineError

PACKAGES = (
    "numpy",
    "scipy",
    "jax",
    "flax",
    "optax",
    "orbax",
    "grain",
    "chex",
    "ml_collections",
    "absl",
    "etils",
    "rich",
)
SHORTEST_DOCUMENT_WORDS = 30
SHORTEST_PARAGRAPH_WORDS = 6
SMALLEST_LETTER_SHARE = 0.9  # Letters and blanks, of the characters of a paragraph.
SMALLEST_WORD_SHARE = 0.72  # Words of letters only, of its words.
_LETTER_OR_BLANK = re.compile(r"[^\W\d_]| ")
_SECTION = re.compile(r"^\W*$|^[=\-~*^\"'#.+`_]{3,}$")
_CODE_LINE = re.compile(
    r"^\s*(>>>|\.\.\. |\.\. |::|@|\$ |[|+]|:\w+)|[{};]\s*$"
    r"|^\s*(def|class|import|from \S+ import|return)\b"
)
_BULLET = re.compile(r"^\s*([-*+•]|\d+[.)])\s+")
_DEFINITION = re.compile(r"^\s*\*{0,2}\w+(, \*{0,2}\w+)*\s*(\([^)]*\))?\s*: ?\S*(,? \w+\.?)*$")
_MARK_UP = re.compile(r":\w+(?::\w+)?:`~?([^`<]*?)(?:\s*<[^>`]*>)?`|``?([^`]*)``?|\*\*([^*]+)\*\*")


def embedded_documents() -> Iterator[Document]:
    """Documents of prose, in an order that depends on nothing but what is installed."""
    seen: set[bytes] = set()
    for source, text in _texts():
        sentences = [
            sentence for paragraph in _paragraphs(text) for sentence in by_punctuation(paragraph)
        ]
        if sum(len(sentence.split()) for sentence in sentences) < SHORTEST_DOCUMENT_WORDS:
            continue
        digest = hashlib.sha256("\n".join(sentences).encode()).digest()
        if digest not in seen:
            seen.add(digest)
            yield Document(sentences, source)


def write_embedded_corpus(path: str | pathlib.Path) -> None:
    """Writes the documents as plain text that `prepare` reads; the file is whole or not there."""
    path = pathlib.Path(path)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                for document in embedded_documents():
                    file.write("\n".join(document.sentences) + "\n\n")
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"{path} cannot be written: {error.strerror}. Free some space or choose another place."
        ) from error


def _texts() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"pydoc_data.topics:{name}", topics[name]
    for root in [pathlib.Path(sysconfig.get_paths()["stdlib"]), *_package_folders()]:
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root).parts
            if not {"site-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data"} & set(
                inside
            ):
                yield from _docstrings(path, f"{root.name}/{'/'.join(inside)}")


def _package_folders() -> Iterator[pathlib.Path]:
    for name in PACKAGES:
        specification = importlib.util.find_spec(name)
        for folder in (specification.submodule_search_locations or ()) if specification else ():
            yield pathlib.Path(folder)


def _docstrings(path: pathlib.Path, name: str) -> Iterator[tuple[str, str]]:
    """One text per file: its docstrings in the order of the source."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Other people's escape sequences.
            tree = ast.parse(path.read_bytes())
    except (
        SyntaxError,
        ValueError,
        OSError,
    ):  # Templates and old files that are no Python of today.
        return
    texts = [
        inspect.cleandoc(text)
        for node in _documented(tree)
        if (text := ast.get_docstring(node, clean=False))
    ]
    if texts:
        yield name, "\n\n".join(texts)


def _documented(
    node: ast.AST,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The nodes that may have a docstring, in the order of the source.

    Expressions are not visited.
    """
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for part in ("body", "handlers", "orelse", "finalbody"):
        statements = getattr(node, part, ())
        for statement in statements if isinstance(statements, list) else ():
            yield from _documented(statement)


def _paragraphs(text: str) -> Iterator[str]:
    """Wrapped lines joined again; only paragraphs that read like prose."""
    for block in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for line in block.split("\n"):
            if _CODE_LINE.search(line) or _DEFINITION.match(line) or _SECTION.match(line):
                yield from _prose(lines)
                lines = []
            elif _BULLET.match(line):
                yield from _prose(lines)
                lines = [_BULLET.sub("", line)]
            else:
                lines.append(line)
        yield from _prose(lines)


def _prose(lines: list[str]) -> Iterator[str]:
    paragraph = " ".join(" ".join(lines).split())
    paragraph = _MARK_UP.sub(lambda match: next(filter(None, match.groups()), ""), paragraph)
    words = paragraph.split()
    letters = len(_LETTER_OR_BLANK.findall(paragraph))
    wordlike = sum(word.strip(".,;:!?()'\"").isalpha() for word in words)
    if (
        len(words) >= SHORTEST_PARAGRAPH_WORDS
        and letters >= SMALLEST_LETTER_SHARE * len(paragraph)
        and wordlike >= SMALLEST_WORD_SHARE * len(words)
        and paragraph.isprintable()
    ):
        yield paragraph
