"""What a step costs in floating-point operations, and what known chips can do at most."""

import jax

from roberta_jax.config import PretrainConfig
from roberta_jax.train.plan import Phase

# Dense bfloat16 matrix FLOPs per second of one jax device, from the makers' data sheets. Devices
# that are not listed (every CPU) have no known peak, and no share of it is reported.
PEAK_FLOPS: dict[str, float] = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def step_flops(config: PretrainConfig, phase: Phase) -> float:
    """Model FLOPs of one update: 2 per multiply-add, backward counted as twice the forward.

    Matrix products and attention only; recomputation (rematerialisation) is not counted, and the
    vocabulary projection counts for the masked positions only.
    """
    encoder, length = config.encoder, phase.sequence_length
    width = encoder.hidden_size
    per_layer = 8 * width * width + 4 * width * encoder.mlp_size + 4 * length * width
    per_prediction = 2 * width * width + 2 * width * encoder.vocab_size
    per_row = length * encoder.num_layers * per_layer
    per_row += config.masking.max_masked(length) * per_prediction
    return 3.0 * phase.batch_size * per_row


def peak_share(flops: float, seconds: float) -> float | None:
    """Reached FLOPs as a share of the devices' peak, or None where the peak is not known."""
    peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
    if peak is None:
        return None
    return flops / seconds / (peak * jax.device_count())
