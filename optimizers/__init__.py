"""Optimizers for JAX that read like their papers and keep optax's contract."""

from optimizers._adam import ScaleByAdamState, adam, adamw, scale_by_adam
from optimizers._adam_nc import ScaleByAdamNcState, adam_nc, scale_by_adam_nc
from optimizers._adamax import ScaleByAdamaxState, adamax, scale_by_adamax
from optimizers._amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad

__all__ = [
    "ScaleByAdamNcState",
    "ScaleByAdamState",
    "ScaleByAdamaxState",
    "ScaleByAmsgradState",
    "adam",
    "adam_nc",
    "adamax",
    "adamw",
    "amsgrad",
    "scale_by_adam",
    "scale_by_adam_nc",
    "scale_by_adamax",
    "scale_by_amsgrad",
]
