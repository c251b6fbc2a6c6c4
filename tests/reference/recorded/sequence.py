"""The gradients that released implementations were recorded with.

Multiples of powers of two, so that they are the same numbers on every machine.
"""

START = {"bias": [1.0, -2.0], "weight": [0.5, -0.25, 0.125]}
STEPS = 50


def gradients(drift: int) -> dict[str, list[list[float]]]:
    """One row for each step. With a drift, entries mostly keep their signs.

    Entries span six decades. The residues run over -15, ..., 15, so some gradients
    are exactly 0; the first of all is not.
    """
    sizes = {"bias": [2**-13, 2**-8], "weight": [2**-3, 2**2, 2**7]}

    def residue(t: int, i: int) -> int:
        return (7 * t**2 + 11 * t * (i + 3) + 5 * i) % 31 - 15

    rows: dict[str, list[list[float]]] = {}
    first = 0
    for name, leaf in sizes.items():
        rows[name] = [
            [size * (residue(t, first + k) + drift) for k, size in enumerate(leaf)]
            for t in range(1, STEPS + 1)
        ]
        first += len(leaf)
    return rows


def rate_factors(decaying: bool) -> list[float]:
    """What the learning rate is multiplied by at each step."""
    return [1 - t / 64 if decaying else 1.0 for t in range(STEPS)]
