"""Named lists of problems: what `python -m benchmarks run <suite>` runs."""

_QUICK = (
    "quad_diag",
    "quad_rot",
    "logreg_bc",
    "softmax_digits",
    "rosen2",
    "rosen10",
    "mlp32_digits",
)

SUITES: dict[str, tuple[str, ...]] = {
    # One of each kind: exact evaluation, a picture in the plane, a network.
    "smoke": ("quad_diag", "rosen2", "mlp32_digits"),
    "quick": _QUICK,
    "standard": (*_QUICK, "cnn_digits", "bigram_text"),
}
