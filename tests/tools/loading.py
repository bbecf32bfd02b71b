"""Scripts of tools/ as modules, for their tests."""

import importlib.util
import pathlib


def load_tool(name):
    """The module of tools/NAME.py, which no package holds."""
    path = pathlib.Path(__file__).parents[2] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
