#!/usr/bin/env bash
# jax.example_libraries.optimizers.adam never moves bfloat16 params, and a gradient of 0 makes them NaN.
#
# Versions: jax 0.10.2.
# Behaviour: the decay rates become bfloat16 beside bfloat16 params. There b2 = 0.999 is 1, so the bias correction
#   1 - b2**t is 0 and the corrected second moment is infinite: every step is 0. With a gradient of 0 it is 0 / 0.
# Output seen:
#   jax 0.10.2
#   float32, three gradients of 1: [0.9900000691413879, 0.9800001978874207, 0.9700003266334534]
#   bfloat16, fifty gradients of 1: {1.0}
#   bfloat16, one gradient of 0: [nan]
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'jax==0.10.2'

cat >"$work/check.py" <<'PY'
import math

import jax
import jax.numpy as jnp
from jax.example_libraries.optimizers import adam


def params_after(dtype, gradients):
    init, update, get_params = adam(0.01)
    state = init(jnp.ones(1, dtype))
    path = []
    for step, gradient in enumerate(gradients):
        state = update(step, jnp.array([gradient], dtype), state)
        path.append(float(get_params(state)[0]))
    return path


moved = params_after(jnp.float32, [1.0] * 3)
still = params_after(jnp.bfloat16, [1.0] * 50)
zero = params_after(jnp.bfloat16, [0.0])
print("jax", jax.__version__)
print("float32, three gradients of 1:", moved)
print("bfloat16, fifty gradients of 1:", set(still))
print("bfloat16, one gradient of 0:", zero)
assert moved[0] < 1.0 and set(still) == {1.0} and math.isnan(zero[0]), "the behaviour has changed"
PY
cd "$work"
JAX_PLATFORMS=cpu "$work/venv/bin/python" -W ignore check.py
