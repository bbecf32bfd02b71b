"""From gradients to updates: schedule, AdamW, and which parameters decay.

The only importer of optax.

In: an `OptimizerConfig`, the number of steps. Out: an optax `GradientTransformation` over the
nested dict of parameters, and the learning rate at any step.

- `schedule`: warm-up and decay.
- `decay`: the table path → decays or not.
- `adamw`: clip → moments → decay → learning rate.
"""
