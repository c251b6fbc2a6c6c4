"""Records released PyTorch implementations in float64, for test_released.py.

In an environment of its own (Python 3.11), as `python released.py` in this folder:

    pip install torch==2.13.0 adabound==0.0.5 adam-atan2-pytorch==0.4.1 \
        dadaptation==3.2 prodigyopt==1.1.2 pytorch_optimizer==4.1.0

Gradients and params are in sequence.py. What is recorded stays where these versions
do what their papers say, or what they themselves document:

- DAdaptSGD: a first gradient that is not zero (it divides by its norm), and no weight
  decay (it is left out of that norm, but not out of the gradients).
- DAdaptAdam, DAdaptAdaGrad, Prodigy: no learning rate of 0, which they refuse, and at
  which their steps would leave the moments as they are.
- Prodigy: a decay rate of the first moment above 0. Without that moment, it takes the
  new estimate of the distance where it takes the old one otherwise.
- AdEMAMix of pytorch_optimizer: decoupled decay, which is not its default, and a fast
  decay rate above 0, because its schedule takes the logarithm. Not version 3.9,
  which also corrects the bias of the slow average.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any, NamedTuple

import adabound
import adam_atan2_pytorch
import dadaptation
import prodigyopt
import pytorch_optimizer
import sequence
import torch

PACKAGES = {
    torch.optim: "torch",
    adabound: "adabound",
    adam_atan2_pytorch: "adam-atan2-pytorch",
    dadaptation: "dadaptation",
    prodigyopt: "prodigyopt",
    pytorch_optimizer: "pytorch_optimizer",
}


class Run(NamedTuple):
    module: Any
    method: str
    options: dict[str, Any]
    decaying: bool = False  # the learning rate, see sequence.rate_factors
    drift: int = 0


RUNS = [
    Run(torch.optim, "Adam", {"lr": 0.1}),
    Run(torch.optim, "Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    Run(torch.optim, "Adam", {"lr": 0.1, "weight_decay": 0.1}),
    Run(torch.optim, "Adam", {"lr": 0.1, "amsgrad": True}, decaying=True),
    Run(torch.optim, "AdamW", {"lr": 0.1, "weight_decay": 0.1}, decaying=True),
    Run(torch.optim, "AdamW", {"lr": 0.1, "amsgrad": True, "betas": (0.9, 0.9)}),
    Run(torch.optim, "Adamax", {"lr": 0.1, "weight_decay": 0.1}, decaying=True),
    Run(torch.optim, "Adamax", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    Run(adabound, "AdaBound", {"lr": 0.1}),
    Run(adabound, "AdaBound", {"lr": 1e-3, "gamma": 0.5, "eps": 1e-3}, decaying=True),
    Run(adabound, "AdaBound", {"lr": 1e-3, "gamma": 0.1, "weight_decay": 0.1}),
    Run(adabound, "AdaBound", {"lr": 0.1, "amsbound": True, "betas": (0.9, 0.9)}),
    Run(
        adabound,
        "AdaBound",
        {"lr": 1e-2, "gamma": 0.05, "final_lr": 0.01, "amsbound": True},
        decaying=True,
    ),
    Run(adam_atan2_pytorch, "AdamAtan2", {"lr": 0.1}, decaying=True),
    Run(
        adam_atan2_pytorch,
        "AdamAtan2",
        {"lr": 0.1, "betas": (0.8, 0.95), "a": 2.0, "b": 0.5, "weight_decay": 0.1},
    ),
    Run(
        adam_atan2_pytorch,
        "AdamAtan2",
        {"lr": 0.1, "weight_decay": 0.01, "decoupled_wd": True},
    ),
    Run(dadaptation, "DAdaptSGD", {"d0": 1e-3}, drift=4),
    Run(dadaptation, "DAdaptSGD", {"momentum": 0.9, "lr": 0.5}, True, 4),
    Run(dadaptation, "DAdaptSGD", {"d0": 1e-3, "growth_rate": 1.02}, drift=4),
    Run(dadaptation, "DAdaptAdaGrad", {"d0": 1e-3}, decaying=True, drift=9),
    Run(
        dadaptation,
        "DAdaptAdaGrad",
        {"d0": 1e-2, "momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        drift=9,
    ),
    Run(dadaptation, "DAdaptAdam", {"d0": 1e-3}, drift=4),
    Run(
        dadaptation,
        "DAdaptAdam",
        {"d0": 1e-3, "use_bias_correction": True, "weight_decay": 0.1},
        decaying=True,
        drift=4,
    ),
    Run(
        dadaptation,
        "DAdaptAdam",
        {"betas": (0.8, 0.9), "eps": 1e-3, "growth_rate": 1.1}
        | {"decouple": True, "weight_decay": 0.1, "use_bias_correction": True},
        drift=4,
    ),
    Run(prodigyopt, "Prodigy", {"d0": 1e-3}, drift=4),
    Run(
        prodigyopt,
        "Prodigy",
        {"d0": 1e-2, "use_bias_correction": True, "weight_decay": 0.1},
        decaying=True,
        drift=4,
    ),
    Run(
        prodigyopt,
        "Prodigy",
        {"betas": (0.5, 0.9), "beta3": 0.5, "eps": 1e-3, "growth_rate": 1.1},
        drift=4,
    ),
    Run(
        prodigyopt,
        "Prodigy",
        {"safeguard_warmup": True, "d_coef": 2.0, "lr": 0.5}
        | {"decouple": False, "weight_decay": 0.1},
        decaying=True,
        drift=4,
    ),
    Run(pytorch_optimizer, "AdEMAMix", {"lr": 0.1}, decaying=True),
    Run(
        pytorch_optimizer,
        "AdEMAMix",
        {"lr": 0.1, "alpha": 8.0, "t_alpha_beta3": 30}
        | {"weight_decouple": True, "weight_decay": 0.1},
    ),
    Run(
        pytorch_optimizer,
        "AdEMAMix",
        {"lr": 0.1, "betas": (0.5, 0.9, 0.99), "eps": 1e-3, "t_alpha_beta3": 100},
    ),
]


def main() -> None:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES.values()}
    lines = ",\n".join(json.dumps(record(run)) for run in RUNS)
    path = Path(__file__).with_suffix(".json")
    path.write_text(f'{{"versions": {json.dumps(versions)},\n"runs": [\n{lines}\n]}}\n')


def record(run: Run) -> dict[str, Any]:
    params = {
        name: torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for name, x in sequence.START.items()
    }
    optimizer = getattr(run.module, run.method)(list(params.values()), **run.options)
    (group,) = optimizer.param_groups
    rate = group["lr"]
    gradients = sequence.gradients(run.drift)
    trajectory: dict[str, Any] = {name: [] for name in params}
    distances = []
    for t, factor in enumerate(sequence.rate_factors(run.decaying)):
        group["lr"] = rate * factor
        for name, param in params.items():
            param.grad = torch.tensor(gradients[name][t], dtype=torch.float64)
        optimizer.step()
        for name, param in params.items():
            trajectory[name].append(param.tolist())
        distances.append(group.get("d"))
    return {
        "package": PACKAGES[run.module],
        "method": run.method,
        "options": run.options,
        "decaying": run.decaying,
        "drift": run.drift,
        "distances": distances if "d" in group else None,
        "params": trajectory,
    }


if __name__ == "__main__":
    main()
