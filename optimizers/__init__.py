"""Optimizers for JAX that read like their papers and keep optax's contract.

Optimizers, wrappers and gradient transformations are those of optax::

    optimizer = optimizers.adamw(learning_rate=1e-3)
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)

`help(optimizers.adamw)` gives the equations, the arguments and the paper.

Optimizers:

  adabound             Adam with clipped step sizes that gradually turns into SGD
  adam                 Momentum divided by the root mean square of recent gradients
  adam_atan2           Scale-invariant Adam without eps
  adam_cm              Adam with a buffer of momenta from past steps with large
                       gradients
  adam_nc              Adam with the mean of all squared gradients as second moment
  adamax               Adam with a decaying maximum in place of the second moment
  adamw                Adam with decoupled weight decay
  ademamix             Adam with a second, slowly decaying average of the gradients
  amsbound             AdaBound with the running maximum of the second moment
  amsgrad              Adam with the running maximum of the second moment
  dadapt_adagrad       AdaGrad with an automatic learning rate
  dadapt_adam          Adam with an automatic learning rate
  dadapt_sgd           SGD with an automatic learning rate
  innaprop             Inertial Newton-like method with RMSprop scaling
  nadam                Adam with Nesterov momentum, which may warm up
  optimistic_amsgrad   AMSGrad with a prediction of the next gradient
  prodigy              Adam with a learning rate from an estimated distance to the
                       solution
  simplified_ademamix  Adam with heavy-ball momentum plus a weighted gradient

Wrappers, which take an optimizer:

  asam          SAM with perturbations relative to the size of each weight
  friendly_sam  SAM that perturbs along the noise of the gradient
  gsam          SAM that also minimizes the gap between the perturbed and the actual
                loss
  imbsam        SAM on the loss of rare classes, plain gradients on the rest
  lookahead     Every k steps, slow weights move part of the way to the fast ones
  looksam       SAM that computes its second gradient only every few steps
  sam           Steps along the gradient at the point of highest loss nearby

Gradient transformations, to be chained with an optimizer:

  adaptive_grad_clip          Clips gradients relative to the weight norm
  bloop                       Adds the part of the auxiliary gradient orthogonal to the
                              main one
  cagrad                      Maximizes the worst-case decrease of two losses near the
                              mean gradient
  clip_by_global_norm         Limits the norm of the gradient
  dynamic_barrier             Adds the auxiliary gradient without slowing the main
                              descent
  gradvac                     Raises the cosine of two gradients to its moving average
  mgda                        The minimum-norm convex combination of two gradients
  mixed_gradients             The gradient of a weighted sum of losses
  pcgrad                      Removes from each gradient the component that conflicts
                              with another
  sharpness_aware             The gradient at the point of highest loss nearby, for flat
                              minima
  width_scaled_learning_rate  Transfers a learning rate to a wider network

Other functions:

  ademamix_alpha_schedule  Linear warm-up of AdEMAMix's alpha
  ademamix_b3_schedule     Warm-up of AdEMAMix's b3, linear in the half-life of the
                           average
  distance_estimates       Returns the distance estimates d of D-Adaptation and Prodigy
                           in a state, by path
  epsilon_hat              Schedule for eps that adds it before the second moment is
                           corrected
  from_keras_state         Takes over the state of a Keras optimizer, to continue its
                           run here
  from_torch_state         Takes over the state of a PyTorch optimizer, to continue its
                           run here
  gsam_rho_schedule        The radius of GSAM as a linear function of the learning rate
  last_gradient_predictor  Predicts that the next gradient equals the last one, like
                           predictor=None
  lookahead_params         Returns the slow weights of `lookahead`, for evaluation
  no_bias_correction       Schedule of the factor that undoes the bias corrections of
                           Adam
  rmpe_predictor           Predicts the limit of the gradients, by extrapolation of the
                           last few
  sam_value_and_grad       As `jax.value_and_grad`, with the gradient of SAM
  state_shardings          Returns the sharding of each leaf of the state that
                           `optimizer.init` returns
  zero_predictor           Predicts a zero gradient; with b1=0 this is AMSGrad in the
                           paper's form

Each optimizer has a part `scale_by_*` without the learning rate, and some wrappers have
a part `*_gradient` to be chained before an optimizer. `optimizers.testing` tests
optimizers, and `optimizers.catalog` lists functions by kind.
"""

import typing as _typing

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
from optimizers._bias_correction import epsilon_hat, no_bias_correction
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
from optimizers._foreign_states import from_keras_state, from_torch_state
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
from optimizers._missing import error as _error
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
from optimizers._state_shardings import state_shardings
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
    "epsilon_hat",
    "friendly_sam",
    "friendly_sam_gradient",
    "from_keras_state",
    "from_torch_state",
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
    "no_bias_correction",
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
    "state_shardings",
    "width_scaled_learning_rate",
    "zero_predictor",
]


if not _typing.TYPE_CHECKING:  # type checkers find wrong names themselves

    def __getattr__(name: str) -> _typing.NoReturn:
        raise _error(name, __all__)
