#!/usr/bin/env bash
# HeavyBall's ADOPT moves a weight by half a million after two gradients of 0 and one of 1, at a learning rate of 0.01.
#
# Versions: heavyball 3.2.1, torch 2.13.0.
# Behaviour: ADOPT divides a gradient by the root of the second moment of the gradients before it. As long as all of them
#   were 0, for instance at a unit that was dead until now, that root is 0 and eps alone divides. Nothing bounds the
#   quotient, and the momentum repeats it at the next step.
# Output seen:
#   heavyball 3.2.1 torch 2.13.0+cpu
#   gradients 0, 0, 1, 1 from 1: [1.0, 1.0, -526314.8125, -858418.125]
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'torch==2.13.0' 'heavyball==3.2.1' numpy

cat >"$work/check.py" <<'PY'
from importlib.metadata import version

import heavyball
import torch

heavyball.utils.compile_mode = None
weight = torch.nn.Parameter(torch.tensor([1.0]))
optimizer = heavyball.ADOPT([weight], lr=0.01)
path = []
for gradient in (0.0, 0.0, 1.0, 1.0):
    weight.grad = torch.tensor([gradient])
    optimizer.step()
    path.append(weight.item())
print("heavyball", version("heavyball"), "torch", torch.__version__)
print("gradients 0, 0, 1, 1 from 1:", path)
assert path[1] == 1.0 and abs(path[2]) > 1e5, "the behaviour has changed"
PY
cd "$work"
"$work/venv/bin/python" -W ignore check.py
