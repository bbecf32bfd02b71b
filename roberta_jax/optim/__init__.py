"""From gradients to updates: learning rate, AdamW and LAMB, and which parameters decay.

The only importer of optax.

In: an `OptimizerConfig`, a `ScheduleConfig` and the steps it covers. Out: an `Optimizer` over the
nested dict of parameters, which is told the learning rate of every update, and that learning rate
as a function of the step.

- `schedule`: warm-up and decay, over one stretch of the run or several.
- `decay`: the table path → decays or not.
- `moments`: Adam's direction; its moments in float32 or bfloat16.
- `rounding`: to bfloat16 at random, without bias, the same for every sharding.
- `trust_ratio`: LAMB's scale of each layer's update.
- `optimizer`: clip → moments → decay → trust ratio of LAMB → learning rate.
- `average`: the exponential average of the weights.
"""
