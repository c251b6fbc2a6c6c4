"""Optimizers for JAX that read like their papers and keep optax's contract."""

from optimizers._adabound import (
    ScaleByAdaboundState,
    ScaleByAmsboundState,
    adabound,
    amsbound,
    scale_by_adabound,
    scale_by_amsbound,
)
from optimizers._adam import ScaleByAdamState, adam, adamw, scale_by_adam
from optimizers._adam_atan2 import (
    ScaleByAdamAtan2State,
    adam_atan2,
    scale_by_adam_atan2,
)
from optimizers._adam_cm import ScaleByAdamCmState, adam_cm, scale_by_adam_cm
from optimizers._adam_nc import ScaleByAdamNcState, adam_nc, scale_by_adam_nc
from optimizers._adamax import ScaleByAdamaxState, adamax, scale_by_adamax
from optimizers._ademamix import (
    ScaleByAdemamixState,
    ademamix,
    ademamix_alpha_schedule,
    ademamix_b3_schedule,
    scale_by_ademamix,
)
from optimizers._amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from optimizers._bloop import BloopState, bloop
from optimizers._cagrad import cagrad
from optimizers._clipping import adaptive_grad_clip, clip_by_global_norm
from optimizers._dadapt_adagrad import (
    ScaleByDadaptAdagradState,
    dadapt_adagrad,
    scale_by_dadapt_adagrad,
)
from optimizers._dadapt_adam import (
    ScaleByDadaptAdamState,
    dadapt_adam,
    scale_by_dadapt_adam,
)
from optimizers._dadapt_sgd import (
    ScaleByDadaptSgdState,
    dadapt_sgd,
    scale_by_dadapt_sgd,
)
from optimizers._distance_estimates import distance_estimates
from optimizers._dynamic_barrier import DynamicBarrierState, dynamic_barrier
from optimizers._friendly_sam import (
    FriendlySamState,
    friendly_sam,
    friendly_sam_gradient,
)
from optimizers._gradvac import GradvacState, gradvac
from optimizers._gsam import gsam, gsam_gradient, gsam_rho_schedule
from optimizers._imbsam import imbsam, imbsam_gradient
from optimizers._innaprop import ScaleByInnapropState, innaprop, scale_by_innaprop
from optimizers._lookahead import LookaheadState, lookahead, lookahead_params
from optimizers._looksam import LooksamState, looksam, looksam_gradient
from optimizers._mgda import mgda
from optimizers._mixed_gradients import MixedGradientsState, mixed_gradients
from optimizers._nadam import ScaleByNadamState, nadam, scale_by_nadam
from optimizers._optimistic_amsgrad import (
    ScaleByOptimisticAmsgradState,
    optimistic_amsgrad,
    scale_by_optimistic_amsgrad,
)
from optimizers._pcgrad import PcgradState, pcgrad
from optimizers._predictors import (
    Predictor,
    RmpeState,
    last_gradient_predictor,
    rmpe_predictor,
    zero_predictor,
)
from optimizers._prodigy import ScaleByProdigyState, prodigy, scale_by_prodigy
from optimizers._sam_value_and_grad import sam_value_and_grad
from optimizers._sharpness_aware import asam, sam, sharpness_aware
from optimizers._simplified_ademamix import (
    ScaleBySimplifiedAdemamixState,
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from optimizers._version import __version__ as __version__
from optimizers._width_scaled_learning_rate import width_scaled_learning_rate

__all__ = [
    "BloopState",
    "DynamicBarrierState",
    "FriendlySamState",
    "GradvacState",
    "LookaheadState",
    "LooksamState",
    "MixedGradientsState",
    "PcgradState",
    "Predictor",
    "RmpeState",
    "ScaleByAdaboundState",
    "ScaleByAdamAtan2State",
    "ScaleByAdamCmState",
    "ScaleByAdamNcState",
    "ScaleByAdamState",
    "ScaleByAdamaxState",
    "ScaleByAdemamixState",
    "ScaleByAmsboundState",
    "ScaleByAmsgradState",
    "ScaleByDadaptAdagradState",
    "ScaleByDadaptAdamState",
    "ScaleByDadaptSgdState",
    "ScaleByInnapropState",
    "ScaleByNadamState",
    "ScaleByOptimisticAmsgradState",
    "ScaleByProdigyState",
    "ScaleBySimplifiedAdemamixState",
    "adabound",
    "adam",
    "adam_atan2",
    "adam_cm",
    "adam_nc",
    "adamax",
    "adamw",
    "adaptive_grad_clip",
    "ademamix",
    "ademamix_alpha_schedule",
    "ademamix_b3_schedule",
    "amsbound",
    "amsgrad",
    "asam",
    "bloop",
    "cagrad",
    "clip_by_global_norm",
    "dadapt_adagrad",
    "dadapt_adam",
    "dadapt_sgd",
    "distance_estimates",
    "dynamic_barrier",
    "friendly_sam",
    "friendly_sam_gradient",
    "gradvac",
    "gsam",
    "gsam_gradient",
    "gsam_rho_schedule",
    "imbsam",
    "imbsam_gradient",
    "innaprop",
    "last_gradient_predictor",
    "lookahead",
    "lookahead_params",
    "looksam",
    "looksam_gradient",
    "mgda",
    "mixed_gradients",
    "nadam",
    "optimistic_amsgrad",
    "pcgrad",
    "prodigy",
    "rmpe_predictor",
    "sam",
    "sam_value_and_grad",
    "scale_by_adabound",
    "scale_by_adam",
    "scale_by_adam_atan2",
    "scale_by_adam_cm",
    "scale_by_adam_nc",
    "scale_by_adamax",
    "scale_by_ademamix",
    "scale_by_amsbound",
    "scale_by_amsgrad",
    "scale_by_dadapt_adagrad",
    "scale_by_dadapt_adam",
    "scale_by_dadapt_sgd",
    "scale_by_innaprop",
    "scale_by_nadam",
    "scale_by_optimistic_amsgrad",
    "scale_by_prodigy",
    "scale_by_simplified_ademamix",
    "sharpness_aware",
    "simplified_ademamix",
    "width_scaled_learning_rate",
    "zero_predictor",
]
