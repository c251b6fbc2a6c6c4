"""Records states of PyTorch optimizers mid-run in float32, for test_foreign_states.py.

In an environment of its own (Python 3.11), as `python torch_states.py` in this folder:

    pip install torch==2.13.0 adabound==0.0.5 dadaptation==3.2 prodigyopt==1.1.2

Each case holds `state_dict()` and the params after 5 steps, and the params after each
of the next 10. The weight has the layout of `torch.nn.Linear`.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import adabound
import dadaptation
import prodigyopt
import torch

STEPS, REST = 5, 10
START = ([[0.5, -0.25], [0.125, 1.0], [-2.0, 0.75]], [1.0, -2.0, 0.25])
CASES = [
    (torch.optim, "Adam", {"lr": 0.01, "weight_decay": 0.1}),
    (torch.optim, "Adam", {"lr": 0.01, "amsgrad": True}),
    (torch.optim, "AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    (torch.optim, "Adamax", {"lr": 0.01}),
    (torch.optim, "NAdam", {"lr": 0.01}),
    (adabound, "AdaBound", {"lr": 0.01}),
    (adabound, "AdaBound", {"lr": 0.01, "amsbound": True}),
    (dadaptation, "DAdaptAdam", {"d0": 1e-3, "use_bias_correction": True}),
    (prodigyopt, "Prodigy", {"d0": 1e-3, "growth_rate": 1.5}),
]


def gradients(t: int) -> list[torch.Tensor]:
    """Multiples of 1/16, mostly positive, with zeros and different sizes."""

    def entry(i: int) -> float:
        return ((7 * t**2 + 11 * t * (i + 3) + 5 * i) % 31 - 11) / 16 * 4 ** (i % 3)

    entries = torch.tensor([entry(i) for i in range(9)])
    return [entries[:6].reshape(3, 2), entries[6:]]


def record(module: Any, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    params = [torch.tensor(x, requires_grad=True) for x in START]
    optimizer = getattr(module, name)(params, **arguments)
    visited = []
    for t in range(1, STEPS + REST + 1):
        for x, g in zip(params, gradients(t), strict=True):
            x.grad = g.clone()
        optimizer.step()
        visited.append([x.tolist() for x in params])
        if t == STEPS:
            state_dict = listed(optimizer.state_dict())
    rest = [[g.tolist() for g in gradients(t)] for t in range(STEPS + 1, 16)]
    return {
        "package": module.__name__,
        "class": name,
        "arguments": arguments,
        "state_dict": state_dict,
        "params": visited[STEPS - 1],
        "next_gradients": rest,
        "next_params": visited[STEPS:],
    }


def listed(value: Any) -> Any:
    """The value with lists in place of tensors and infinite numbers as strings."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(k): listed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [listed(v) for v in value]
    return str(value) if value in (float("inf"), float("-inf")) else value


def main() -> None:
    names = ("torch", "adabound", "dadaptation", "prodigyopt")
    versions = {name: importlib.metadata.version(name) for name in names}
    cases = ",\n".join(json.dumps(record(*case)) for case in CASES)
    path = Path(__file__).with_suffix(".json")
    path.write_text(
        f'{{"versions": {json.dumps(versions)},\n"cases": [\n{cases}\n]}}\n'
    )


if __name__ == "__main__":
    main()
