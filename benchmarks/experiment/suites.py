"""Suites: the named experiments of `python -m benchmarks run SUITE`."""

import dataclasses
from collections.abc import Sequence

_QUICK = (
    "quad_diag",
    "quad_rot",
    "quad_matrix",
    "logreg_bc",
    "softmax_digits",
    "rosen2",
    "rosen10",
    "mlp32_digits",
)
_WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0)
_MOMENTUM = "optax.sgd(momentum=0.9)"


@dataclasses.dataclass(frozen=True)
class Suite:
    """A set of problems that answers one question, with its default settings.

    Attributes:
      question: The question, in a few words.
      problems: Names of problems.
      optimizers: Specs; if empty, the default roster.
      learning_rates: The grid; if empty, the default grid.
      schedule: `constant` or `cosine`.
      seeds: Number of evaluation seeds.
      tune_seeds: Number of tuning seeds.
    """

    question: str
    problems: tuple[str, ...]
    optimizers: tuple[str, ...] = ()
    learning_rates: tuple[float, ...] = ()
    schedule: str = "constant"
    seeds: int = 10
    tune_seeds: int = 3


SUITES: dict[str, Suite] = {
    "smoke": Suite(
        "Does everything work? One quadratic, one function in the plane, one network",
        ("quad_diag", "rosen2", "mlp32_digits"),
    ),
    "quick": Suite(
        "Which optimizers reach the targets with the fewest gradients?", _QUICK
    ),
    "standard": Suite(
        "The same as quick, on more problems",
        (*_QUICK, "cnn_digits", "bigram_text"),
    ),
    "generalization": Suite(
        "Do weight perturbation and averaging improve test accuracy?",
        ("noisy_digits", "longtail_digits"),
        (
            _MOMENTUM,
            *(f"sam({_MOMENTUM}, rho={rho})" for rho in (0.05, 0.2, 0.5)),
            f"asam({_MOMENTUM}, rho=1.0)",
            f"gsam({_MOMENTUM}, rho=0.2)",
            f"looksam({_MOMENTUM}, rho=0.2)",
            f"friendly_sam({_MOMENTUM}, rho=0.2)",
            *(f"imbsam({_MOMENTUM}, rho={rho})" for rho in (0.2, 0.5)),
            f"lookahead({_MOMENTUM})",
        ),
        learning_rates=(0.003, 0.01, 0.03, 0.1),
        schedule="cosine",
        tune_seeds=2,
    ),
    "two_objectives": Suite(
        "Which trade-offs between two losses does each method reach?",
        ("bilevel_quad", "smooth_mlp"),
        (
            "adam",
            *(
                f"{method}(adam, aux_weight={weight:g})"
                for method in ("mixed_gradients", "pcgrad", "dynamic_barrier")
                for weight in _WEIGHTS
            ),
            # Bloop's auxiliary part is orthogonal to the main gradient, so that the
            # same trade-off needs a larger weight.
            *(
                f"bloop(adam, aux_weight={weight:g})"
                for weight in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
            ),
            "mgda(adam)",
            "cagrad(adam)",
            "gradvac(adam)",
        ),
        learning_rates=(1e-3, 3e-3, 1e-2),
        schedule="cosine",
        tune_seeds=2,
    ),
    "games": Suite(
        "Which optimizers find the equilibrium of two players?",
        ("bilinear", "wgan_toy"),
        (
            "optax.sgd",
            "optax.adam",
            "adam(b1=0.0)",
            "amsgrad",
            "amsgrad(b1=0.0)",
            "optimistic_amsgrad",
            "optimistic_amsgrad(b1=0.0)",
            "optax.optimistic_gradient_descent",
            "optax.optimistic_adam_v2(b1=0.0, nesterov=False)",
            "lookahead(optax.sgd)",
        ),
    ),
}


def title(suite: str, problems: Sequence[str]) -> str:
    """What a run is called: its suite, or its problems if one is not in that suite."""
    return suite if {*problems} <= {*SUITES[suite].problems} else ", ".join(problems)
