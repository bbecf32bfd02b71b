"""Eight fake CPU devices for every test, parsed absl flags, repeatable hypothesis examples."""

import os

# Read when jax is first imported, so this comes before every other import. The programs of the
# tests are small: compiling them takes longer than running them, and half as long like this.
FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import hypothesis  # noqa: E402
from absl import flags  # noqa: E402

flags.FLAGS.mark_as_parsed()  # grain reads absl flags and raises where nobody parsed them.

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, max_examples=50, database=None
)
hypothesis.settings.load_profile("repeatable")
