"""The shape of the code base: what every folder has, and what no file holds."""

import ast
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "roberta_jax"
# Test folders that mirror no folder of the package.
OTHER_TESTS = {"golden", "repository", "runs", "tools"}

# Written in parts, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~}$/-])/(?:" + "|".join(["work", "root", "opt"]) + r")/\w")
INDEX_HOST = re.compile(
    "|".join([r"pypi" r"\.org", r"python" r"hosted", r"--(?:extra-)?index" "-url"])
)


def packages():
    return sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def tracked_files():
    """Files that are, or would be, committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_every_package_says_what_enters_and_leaves_it():
    for package in packages():
        docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
        assert docstring, f"{package.relative_to(ROOT)}/__init__.py has no docstring"
        if package != PACKAGE:
            assert len(docstring.split()) >= 20, f"{package.relative_to(ROOT)}: too short to say it"


def test_every_folder_of_code_is_a_package():
    for path in PACKAGE.rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path.parent.relative_to(ROOT)


def test_tests_mirror_the_package():
    sources = {package.name for package in packages() if package.parent == PACKAGE}
    tests = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} - OTHER_TESTS
    assert sources - tests == set(), "folders without tests"
    assert tests - sources == set(), "tests of folders that are not there"


def test_no_folder_is_a_drawer_for_the_rest():
    drawers = {"utils", "util", "common", "helpers", "misc", "lib", "core"}
    assert not drawers & {path.stem for path in PACKAGE.rglob("*")}


def test_no_file_names_a_machine_path_or_a_package_index():
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # An image.
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or INDEX_HOST.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_no_source_file_has_outgrown_its_concept():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
