"""Records adam-atan2-pytorch in float64, for test_adam_atan2.py.

Needs nothing of this repository: `pip install torch adam-atan2-pytorch==0.4.1`, then
`python adam_atan2.py` in this folder.
"""

import json
from pathlib import Path

import numpy as np
import torch
from adam_atan2_pytorch import AdamAtan2

OPTIONS = [
    {"b1": 0.9, "b2": 0.999, "a": 1.27, "b": 1.0, "weight_decay": 0.0},
    {"b1": 0.8, "b2": 0.95, "a": 2.0, "b": 0.5, "weight_decay": 0.1},
]
RATE, STEPS, ENTRIES = 0.1, 20, 5


def main() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(STEPS, ENTRIES)) * 10 ** rng.uniform(-3, 3, ENTRIES)
    gradients[rng.random((STEPS, ENTRIES)) < 0.1] = 0.0
    start = rng.normal(size=ENTRIES)
    record = {"rate": RATE, "start": start.tolist(), "gradients": gradients.tolist()}
    record["runs"] = [
        {"options": options, "params": trajectory(start, gradients, **options)}
        for options in OPTIONS
    ]
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(record, indent=1) + "\n")


def trajectory(
    start: np.ndarray, gradients: np.ndarray, *, b1: float, b2: float, **options: float
) -> list[list[float]]:
    params = torch.tensor(start, requires_grad=True)
    optimizer = AdamAtan2([params], lr=RATE, betas=(b1, b2), **options)
    rows = []
    for gradient in gradients:
        params.grad = torch.tensor(gradient)
        optimizer.step()
        rows.append(params.detach().tolist())
    return rows


if __name__ == "__main__":
    main()
