#!/usr/bin/env bash
# The first step of pytorch_optimizer's Lamb is ten times as long as LAMB's.
#
# Versions: pytorch-optimizer 4.1.0, torch-optimizer 0.3.0 (the peer), torch 2.13.0.
# Behaviour: the trust ratio makes every step of LAMB lr * |params| long, whatever the size of the momentum. This class
#   divides the learning rate by 1 - b1**t as well, so that the first step is 1 / (1 - 0.9) times as long. From 1, with
#   one weight and a learning rate of 0.01, a step should end at 0.99.
# Output seen:
#   pytorch-optimizer 4.1.0 torch-optimizer 0.3.0 torch 2.13.0+cpu
#   pytorch_optimizer, gradients 1, -0.5, 0.25 from 1: [0.9000000316237666, 0.852631650759289, 0.8211692468923466]
#   torch_optimizer, gradients 1, -0.5, 0.25 from 1: [0.99, 0.9801, 0.970299]
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  'torch==2.13.0' 'pytorch-optimizer==4.1.0' 'torch-optimizer==0.3.0' numpy

cat >"$work/check.py" <<'PY'
from importlib.metadata import version

import pytorch_optimizer
import torch
import torch_optimizer


def params_after(lamb, gradients):
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = lamb([weight], lr=0.01)
    path = []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        path.append(weight.item())
    return path


print(*(f"{name} {version(name)}" for name in ("pytorch-optimizer", "torch-optimizer")), "torch", torch.__version__)
paths = {package.__name__: params_after(package.Lamb, [1.0, -0.5, 0.25]) for package in (pytorch_optimizer, torch_optimizer)}
for name, path in paths.items():
    print(f"{name}, gradients 1, -0.5, 0.25 from 1: {path}")
assert abs(paths["torch_optimizer"][0] - 0.99) < 1e-6, "the behaviour of the peer has changed"
assert abs(paths["pytorch_optimizer"][0] - 0.90) < 1e-6, "the behaviour has changed"
PY
cd "$work"
"$work/venv/bin/python" -W ignore check.py
