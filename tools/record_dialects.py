"""Records the trajectories in dialects.json again, with the packages themselves.

The tests do not run this. It imports nothing of this library, so that each package can
have an environment of its own, with Python 3.11 and the version in dialects.json:

    pip install torch==2.13.0
    python tools/record_dialects.py torch

TensorFlow.js is installed by npm, in the folder where this runs. MXNet and Chainer also
need numpy==1.23.5, and Chainer setuptools<70 and ``pip install --no-build-isolation``.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).with_name("dialects.json")

Trajectory = Iterator[Any]
# (class, learning rate, arguments, start, gradients) -> the params after each step
Driver = Callable[[str, float, dict[str, Any], np.ndarray, np.ndarray], Trajectory]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Record packages again.")
    parser.add_argument("packages", nargs="+", choices=sorted(DRIVERS))
    data = json.loads(DATA.read_text())
    chosen = parser.parse_args().packages
    for package in data["packages"]:
        if package["package"] in chosen:
            record(package, data)
    DATA.write_text(formatted(data))


def record(package: dict[str, Any], data: dict[str, Any]) -> None:
    """Replaces what is recorded of each row that has a call.

    Raises:
      RuntimeError: Another version of the package is installed.
    """
    name = package["package"]
    if name == "@tensorflow/tfjs":
        found = json.loads(Path("node_modules", name, "package.json").read_text())
        found = found["version"]
    else:
        found = importlib.metadata.version(name).partition("+")[0]
    if found != package["version"]:
        msg = f"dialects.json is about {name} {package['version']}, found {found}."
        raise RuntimeError(msg)
    gradients = np.array(data["gradients"])
    for row in package["rows"]:
        if row["call"] is None:
            continue
        lr = row.get("lr", package.get("lr", data["lr"]))
        dtype = row.get("dtype", package.get("dtype", "float64"))
        start = np.array(data["start"], dtype)
        arguments = {k: _tuple_if_list(v) for k, v in row["arguments"].items()}
        steps = DRIVERS[name](
            row["class"], lr, arguments, start, gradients.astype(dtype)
        )
        params = [np.asarray(x).copy() for x in steps]
        assert len(params) == len(gradients)
        assert params[0].dtype == dtype, (params[0].dtype, dtype)
        row["recorded"] = [_numbers(params[t - 1]) for t in data["steps"]]
        print(name, row["class"], row["arguments"], row["recorded"][-1])


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _numbers(x: np.ndarray) -> list[float | None]:
    """The shortest decimals that are these numbers; None for NaN."""
    return [None if np.isnan(e) else float(str(e)) for e in x]


def formatted(data: dict[str, Any]) -> str:
    """JSON with one line for each step, and two for each row of the table."""
    lines = [f'"{key}": {json.dumps(data[key])},' for key in ("lr", "steps", "start")]
    gradients = ",\n".join(map(json.dumps, data["gradients"]))
    packages = ",\n".join(map(_formatted_package, data["packages"]))
    return (
        "\n".join(
            [
                "{",
                *lines,
                f'"gradients": [\n{gradients}],',
                f'"packages": [\n{packages}]}}',
            ]
        )
        + "\n"
    )


def _formatted_package(package: dict[str, Any]) -> str:
    about = json.dumps({k: v for k, v in package.items() if k != "rows"})
    rows = ",\n".join(map(_formatted_row, package["rows"]))
    return f'{about[:-1]}, "rows": [\n{rows}]}}'


def _formatted_row(row: dict[str, Any]) -> str:
    about = json.dumps({k: v for k, v in row.items() if k != "recorded"})
    if "recorded" not in row:
        return about
    return f'{about[:-1]},\n "recorded": {json.dumps(row["recorded"])}}}'


def _torch_style(module: str) -> Driver:
    """Classes of `torch.optim`, and of packages that follow it."""

    def drive(
        name: str,
        lr: float,
        arguments: dict[str, Any],
        start: np.ndarray,
        gradients: np.ndarray,
    ) -> Trajectory:
        import torch

        # NAdam keeps a product, and others keep scalars, in this dtype.
        torch.set_default_dtype(torch.float64)
        factory = getattr(importlib.import_module(module), name)
        x = torch.tensor(start, requires_grad=True)
        if name == "Lookahead":
            optimizer = factory(torch.optim.SGD([x], lr=lr), **arguments)
        else:
            optimizer = factory([x], lr=lr, **arguments)
        for g in gradients:
            x.grad = torch.tensor(g)
            optimizer.step()
            yield x.detach().numpy()

    return drive


def _keras(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_ENABLE_X64"] = "1"
    import keras

    keras.config.set_floatx("float64")
    x = keras.Variable(start)
    optimizer = getattr(keras.optimizers, name)(learning_rate=lr, **arguments)
    optimizer.build([x])
    for g in gradients:
        optimizer.apply([keras.ops.array(g)], [x])
        yield keras.ops.convert_to_numpy(x)


def _tensorflow(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import tensorflow as tf

    x = tf.Variable(start)
    factory = getattr(tf.compat.v1.train, name.rpartition(".")[2])
    optimizer = factory(learning_rate=lr, **arguments)
    for g in gradients:
        optimizer.apply_gradients([(tf.constant(g), x)])
        yield x.numpy()


def _paddle(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import paddle

    paddle.set_device("cpu")
    paddle.set_default_dtype(str(start.dtype))
    x = paddle.create_parameter(
        start.shape,
        str(start.dtype),
        default_initializer=paddle.nn.initializer.Assign(start),
    )
    optimizer = getattr(paddle.optimizer, name)(
        learning_rate=lr, parameters=[x], **arguments
    )
    for g in gradients:
        (x * paddle.to_tensor(g)).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        yield x.numpy()


def _mindspore(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import mindspore

    mindspore.set_device("CPU")
    x = mindspore.Parameter(mindspore.Tensor(start), name="x")
    factory = getattr(mindspore.nn, name)
    optimizer = factory([x], learning_rate=lr, **arguments)
    for g in gradients:
        optimizer((mindspore.Tensor(g),))
        yield x.asnumpy()


def _mxnet(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import mxnet

    x = mxnet.nd.array(start, dtype=start.dtype)
    optimizer = getattr(mxnet.optimizer, name)(learning_rate=lr, **arguments)
    state = optimizer.create_state(0, x)
    for g in gradients:
        optimizer.update(0, x, mxnet.nd.array(g, dtype=g.dtype), state)
        yield x.asnumpy()


def _chainer(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import chainer

    link = chainer.Link()
    with link.init_scope():
        link.x = chainer.Parameter(start)
    optimizer = getattr(chainer.optimizers, name)(alpha=lr, **arguments)
    optimizer.setup(link)
    for g in gradients:
        link.x.grad = g.copy()
        optimizer.update()
        yield link.x.array


def _mlx(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import mlx.core as mx
    import mlx.optimizers

    params = {"x": mx.array(start)}
    optimizer = getattr(mlx.optimizers, name)(learning_rate=lr, **arguments)
    for g in gradients:
        params = optimizer.apply_gradients({"x": mx.array(g)}, params)
        yield np.array(params["x"])


def _tinygrad(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    os.environ["DEV"] = "PYTHON"
    import tinygrad
    import tinygrad.nn.optim

    x = tinygrad.Tensor(start).contiguous()
    optimizer = getattr(tinygrad.nn.optim, name)([x], lr=lr, **arguments)
    for g in gradients:
        x.grad = tinygrad.Tensor(g)
        with tinygrad.helpers.Context(TRAINING=1):
            optimizer.step()
        yield x.numpy()


def _sklearn(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    from sklearn.neural_network import _stochastic_optimizers

    x = start.copy()
    factory = getattr(_stochastic_optimizers, name)
    optimizer = factory([x], learning_rate_init=lr, **arguments)
    for g in gradients:
        optimizer.update_params([x], [g])
        yield x


def _onnx(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    domain = "ai.onnx.preview.training"
    inputs = {"R": TensorProto.DOUBLE, "T": TensorProto.INT64} | dict.fromkeys(
        "XGVH", TensorProto.DOUBLE
    )
    outputs = dict.fromkeys(("X2", "V2", "H2"), TensorProto.DOUBLE)
    defaults = {"alpha": 0.9, "beta": 0.999, "epsilon": 1e-6} | dict.fromkeys(
        ("norm_coefficient", "norm_coefficient_post"), 0.0
    )
    node = helper.make_node(
        name, list(inputs), list(outputs), domain=domain, **defaults | arguments
    )
    declared = [
        [helper.make_tensor_value_info(k, v, None) for k, v in kinds.items()]
        for kinds in (inputs, outputs)
    ]
    model = helper.make_model(
        helper.make_graph([node], "step", *declared),
        opset_imports=[helper.make_opsetid(domain, 1), helper.make_opsetid("", 20)],
    )
    evaluator = ReferenceEvaluator(model)
    x, v, h = start, np.zeros_like(start), np.zeros_like(start)
    for t, g in enumerate(gradients, start=1):
        feed = {"R": np.float64(lr), "T": np.int64(t), "X": x, "G": g, "V": v, "H": h}
        x, v, h = evaluator.run(None, feed)
        yield x


def _thinc(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import thinc.optimizers

    optimizer = getattr(thinc.optimizers, name)(lr, **arguments)
    x = start.copy()
    for g in gradients:
        x, _ = optimizer((0, "x"), x, g.copy())
        optimizer.step_schedules()
        yield x


def _pennylane(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import pennylane

    optimizer = getattr(pennylane, name)(stepsize=lr, **arguments)
    x = pennylane.numpy.array(start, requires_grad=True)
    for g in gradients:
        (x,) = optimizer.apply_grad([g], [x])
        yield np.array(x)


def _qiskit(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    from qiskit_algorithms import optimizers

    left, visited = iter(gradients), []

    def gradient(x: np.ndarray) -> np.ndarray:
        visited.append(x)
        return next(left)

    factory = getattr(optimizers, name)
    optimizer = factory(maxiter=len(gradients), lr=lr, tol=0.0, **arguments)
    result = optimizer.minimize(lambda x: 0.0, start, gradient)
    yield from [*visited[1:], result.x]


def _autograd(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    from autograd.misc import optimizers

    visited = []
    final = getattr(optimizers, name)(
        lambda x, t: gradients[t],
        start,
        callback=lambda x, t, g: visited.append(x),
        num_iters=len(gradients),
        step_size=lr,
        **arguments,
    )
    yield from [*visited[1:], final]


def _example_libraries(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import jax
    from jax.example_libraries import optimizers

    jax.config.update("jax_enable_x64", True)
    init, update, get_params = getattr(optimizers, name)(lr, **arguments)
    state = init(start)
    for t, g in enumerate(gradients):
        state = update(t, g, state)
        yield get_params(state)


def _optax(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    import jax
    import jax.numpy as jnp
    import optax
    import optax.contrib

    jax.config.update("jax_enable_x64", True)
    module = optax.contrib if name.startswith("contrib.") else optax
    optimizer = getattr(module, name.rpartition(".")[2])(lr, **arguments)
    x = jnp.asarray(start)
    state = optimizer.init(x)
    for g in gradients:
        updates, state = optimizer.update(jnp.asarray(g), state, x)
        x = optax.apply_updates(x, updates)
        yield x


def _tfjs(
    name: str,
    lr: float,
    arguments: dict[str, Any],
    start: np.ndarray,
    gradients: np.ndarray,
) -> Trajectory:
    program = """
        const tf = require("@tensorflow/tfjs");
        const [name, values, start, gradients] = JSON.parse(process.argv[1]);
        const x = tf.variable(tf.tensor1d(start), true, "x");
        const optimizer = tf.train[name](...values);
        const visited = gradients.map((g) => {
          optimizer.applyGradients({ x: tf.tensor1d(g) });
          return Array.from(x.dataSync());
        });
        console.log(JSON.stringify(visited));
    """
    given = [
        name.rpartition(".")[2],
        [lr, *arguments.values()],
        start.tolist(),
        gradients.tolist(),
    ]
    node = subprocess.run(
        ["node", "-e", program, json.dumps(given)],
        check=True,
        capture_output=True,
        text=True,
    )
    visited = json.loads(node.stdout.splitlines()[-1])
    yield from np.array(visited, start.dtype)


DRIVERS: dict[str, Driver] = {
    "adabound": _torch_style("adabound"),
    "autograd": _autograd,
    "bitsandbytes": _torch_style("bitsandbytes.optim"),
    "chainer": _chainer,
    "dadaptation": _torch_style("dadaptation"),
    "heavyball": _torch_style("heavyball"),
    "jax": _example_libraries,
    "keras": _keras,
    "mindspore": _mindspore,
    "mlx": _mlx,
    "mxnet": _mxnet,
    "onnx": _onnx,
    "optax": _optax,
    "paddlepaddle": _paddle,
    "pennylane": _pennylane,
    "prodigyopt": _torch_style("prodigyopt"),
    "pyro-ppl": _torch_style("pyro.optim.clipped_adam"),
    "pytorch-optimizer": _torch_style("pytorch_optimizer"),
    "qiskit-algorithms": _qiskit,
    "scikit-learn": _sklearn,
    "tensorflow": _tensorflow,
    "@tensorflow/tfjs": _tfjs,
    "thinc": _thinc,
    "tinygrad": _tinygrad,
    "torch": _torch_style("torch.optim"),
    "torch-optimizer": _torch_style("torch_optimizer"),
}

if __name__ == "__main__":
    main()
