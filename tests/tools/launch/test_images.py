"""The Dockerfiles of tools/launch, read by a small reader; no image is built."""

import pathlib
import re
import shlex
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "tools" / "launch").glob("Dockerfile.*"))
INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN"),
    *("SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


def instructions(path):
    """(instruction, text) of every line, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line]


def copied(path):
    """What is copied from the repository."""
    sources = []
    for instruction, text in instructions(path):
        if instruction == "COPY":
            sources += shlex.split(text)[:-1]
    return sources


def named(path):
    return path.suffix[1:]


def test_there_is_an_image_for_each_kind_of_chip():
    assert [named(path) for path in DOCKERFILES] == ["cuda", "tpu"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_every_instruction_is_known_and_the_base_is_a_python_of_the_project(path):
    lines = instructions(path)
    assert {instruction for instruction, _ in lines} <= INSTRUCTIONS
    assert lines[0] == ("FROM", "python:3.12-slim")
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert "Programming Language :: Python :: 3.12" in classifiers


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_everything_that_is_copied_is_there_and_not_kept_out(path):
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for source in copied(path):
        assert (ROOT / source).exists(), source
    assert set(copied(path)) == kept


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_what_the_build_of_the_package_reads_is_copied(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "roberta_jax", "configs", "constraints.txt", project["readme"]}
    assert needed | set(project["license-files"]) <= set(copied(path))


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_the_pinned_versions_and_an_extra_that_exists_are_installed(path):
    (run,) = [text for name, text in instructions(path) if name == "RUN" and "pip" in text]
    extra = re.search(r"pip install '\.\[(\w+)\]' -c constraints\.txt", run).group(1)
    assert extra == named(path)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra in extras["optional-dependencies"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_the_program_is_not_run_by_root(path):
    lines = instructions(path)
    users = [text for name, text in lines if name == "USER"]
    assert users and users[-1] not in ("root", "0")
    made = [text for name, text in lines if name == "RUN" and "useradd" in text]
    assert any(text.endswith(f"--uid 1000 {users[-1]}") for text in made)
    last = max(number for number, (name, _) in enumerate(lines) if name == "USER")
    assert "RUN" not in [name for name, _ in lines[last:]]


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_the_entry_point_is_the_program(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (entry,) = [text for name, text in instructions(path) if name == "ENTRYPOINT"]
    assert entry == '["roberta-jax"]' and "roberta-jax" in project["scripts"]
