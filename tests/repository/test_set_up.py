"""The pins and the metadata that `make` installs from."""

import pathlib
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
# What each file of pins is for.
EXTRAS = {"constraints.txt": ("dev", "torch", "tpu"), "constraints-beam.txt": ("dev", "beam")}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(file):
    lines = (ROOT / file).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins_for(file, python):
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins(file)
        if pin.marker is None or pin.marker.evaluate({"python_version": python})
    }


def requirements(*extras):
    declared = project()["dependencies"]
    for extra in extras:
        declared = declared + project()["optional-dependencies"][extra]
    return [Requirement(text) for text in declared]


@pytest.mark.parametrize("file", EXTRAS)
def test_every_constraint_is_one_version_without_host_path_or_local_build(file):
    for pin in pins(file):
        assert pin.url is None and not pin.extras, pin
        (specifier,) = pin.specifier
        assert specifier.operator == "==", pin
        assert "+" not in specifier.version and "*" not in specifier.version, pin


@pytest.mark.parametrize("file", EXTRAS)
@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_is_pinned_twice(file, python):
    names = [
        canonicalize_name(pin.name)
        for pin in pins(file)
        if pin.marker is None or pin.marker.evaluate({"python_version": python})
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", EXTRAS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_declared_dependency_is_pinned_inside_its_range(file, python):
    pinned = pins_for(file, python)
    for requirement in requirements(*EXTRAS[file]):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{file} lacks {name}"
        assert pinned[name] in requirement.specifier, f"{name}=={pinned[name]} is not {requirement}"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_compiler_of_tpus_is_the_one_that_jax_wants(python):
    """Of jax's own extra `tpu`."""
    wanted = {"0.10.2": "==0.0.42.*", "0.12.0.1": "==0.0.50.*"}
    pinned = pins_for("constraints.txt", python)
    assert pinned["libtpu"] in SpecifierSet(wanted[pinned["jax"]])


def test_the_main_job_needs_neither_tensorflow_nor_torch():
    base = {canonicalize_name(requirement.name) for requirement in requirements()}
    assert not base & {"tensorflow", "tensorflow-cpu", "torch", "transformers", "clu"}


def test_python_311_is_the_oldest_that_is_promised():
    assert "3.11.0" in SpecifierSet(project()["requires-python"])
    assert "3.10.9" not in SpecifierSet(project()["requires-python"])
