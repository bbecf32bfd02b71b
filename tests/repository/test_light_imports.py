"""What importing the package, and asking for help, must not load: it has to answer at once."""

import subprocess
import sys

import pytest

HEAVY = {
    "flax",
    "jax",
    "jaxlib",
    "matplotlib",
    "optax",
    "orbax",
    "starlette",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
    "transformers",
    "uvicorn",
}


def modules_after(statement):
    """Names in `sys.modules` after the statement, in a Python of its own."""
    script = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
    script += "print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_import_roberta_jax_loads_no_library():
    loaded = modules_after("import roberta_jax")
    assert "roberta_jax" in loaded
    assert loaded & (HEAVY | {"absl", "grain", "numpy", "tokenizers"}) == set()


def test_help_loads_no_heavy_library():
    loaded = modules_after(
        "sys.argv = ['roberta-jax', '--help']; "
        "from roberta_jax.cli.main import entry_point; sys.exit(entry_point())"
    )
    assert "roberta_jax.cli.main" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    "flags", [["--epochs=0"], [], ["--data=nowhere"], ["--data=.", "--config.seed=1"]]
)
def test_slips_in_the_flags_of_finetune_load_no_heavy_library(flags):
    arguments = ["finetune", "--task=sst2", "--init_from=nowhere", "--workdir=nowhere", *flags]
    loaded = modules_after(
        f"from roberta_jax.cli.main import main; assert main({arguments}) == 2, 'refused'"
    )
    assert "roberta_jax.cli.finetune" in loaded
    assert loaded & HEAVY == set()


def test_importing_every_verb_loads_no_heavy_library():
    loaded = modules_after(
        "import pkgutil, importlib, roberta_jax.cli as cli; "
        "[importlib.import_module(f'roberta_jax.cli.{m.name}')"
        " for m in pkgutil.iter_modules(cli.__path__)]"
    )
    assert "roberta_jax.cli.report" in loaded
    assert loaded & HEAVY == set()
