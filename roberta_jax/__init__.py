"""Pretraining of RoBERTa encoders from raw text, with JAX and Flax.

Importing this package loads neither jax nor any data library; each command loads what it needs.
"""

__version__ = "0.1.0"
