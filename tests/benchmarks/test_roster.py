"""Specs become optimizers, or one clear sentence; slugs keep names apart."""

import hashlib
import string
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizers
from benchmarks import sources
from benchmarks.errors import UserError
from benchmarks.experiment.plan import of_suite
from benchmarks.experiment.suites import SUITES
from benchmarks.results import paths
from benchmarks.roster import resolver, specs

Module = Callable[..., None]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Writes modules into a folder that Python imports from, and forgets them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        sys.modules.pop(name, None)

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def one_update(make: resolver.Make, rate: float) -> np.ndarray:
    params, grads = jnp.array([1.0, 2.0]), jnp.array([0.5, -0.25])
    tx = make(rate)
    return np.asarray(tx.update(grads, tx.init(params), params)[0])


def test_default_roster_has_all_aliases_variants_and_baselines() -> None:
    names = [optimizer.name for optimizer in of_suite(SUITES["quick"])]
    assert {"adam", "adamw", "adamax", "adam_nc", "amsgrad"} <= set(names)
    assert 'amsgrad(variant="paper")' in names
    assert 'amsgrad(variant="torch")' in names
    assert names[-4:] == [
        "optax.sgd(momentum=0.9)",
        "optax.adam",
        "optax.lion",
        "optax.contrib.muon",
    ]
    assert len(set(names)) == len(names)
    assert "scale_by_adam" in optimizers.__all__
    assert "scale_by_adam" not in names


def test_arguments_reach_the_factory() -> None:
    found = resolver.resolve(" optax.sgd( momentum=0.5, nesterov=True ) ")
    assert found.name == "optax.sgd( momentum=0.5, nesterov=True )"
    expected = one_update(lambda r: optax.sgd(r, 0.5, nesterov=True), 0.1)
    np.testing.assert_array_equal(one_update(found.make, 0.1), expected)


def test_make_takes_numbers_tracers_and_schedules() -> None:
    make = resolver.resolve("optax.sgd").make
    number = one_update(make, 0.25)
    np.testing.assert_array_equal(one_update(make, lambda _: 0.25), number)
    traced = jax.jit(lambda rate: make(rate).update(jnp.ones(2), make(rate).init(0.0)))
    np.testing.assert_array_equal(traced(0.25)[0], [-0.25, -0.25])
    assert isinstance(make(0.1), optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "optax.contrib.schedule_free(optax.sgd)",
            lambda rate: optax.contrib.schedule_free(optax.sgd(rate), rate),
        ),
        (
            "optax.apply_if_finite(optax.sgd, max_consecutive_errors=5)",
            lambda rate: optax.apply_if_finite(optax.sgd(rate), 5),
        ),
        (
            "optax.contrib.mechanize(optax.sgd)",
            lambda rate: optax.contrib.mechanize(optax.sgd(rate)),
        ),
        (
            "optax.masked(optax.sgd, mask=True)",
            lambda rate: optax.masked(optax.sgd(rate), True),
        ),
        (
            "optax.clip(optax.sgd, max_delta=0.375)",
            lambda rate: optax.chain(optax.clip(0.375), optax.sgd(rate)),
        ),
        (
            "optax.scale_by_adam(optax.sgd)",
            lambda rate: optax.chain(optax.scale_by_adam(), optax.sgd(rate)),
        ),
        (
            "optax.contrib.normalize(optax.sgd)",
            lambda rate: optax.chain(optax.contrib.normalize(), optax.sgd(rate)),
        ),
    ],
)
def test_wrappers_and_transformations_of_optax(spec: str, expected: specs.Make) -> None:
    found = one_update(resolver.resolve(spec).make, 0.1)
    np.testing.assert_array_equal(found, one_update(expected, 0.1))


def test_users_module_is_found_and_its_options_are_used(module: Module) -> None:
    module(
        "mine_found",
        """
        import optax
        class Box:
            @staticmethod
            def half(lr, scale=0.5):
                return optax.sgd(lr * scale)
        """,
    )
    found = resolver.resolve("mine_found:Box.half(scale=0.125)")
    np.testing.assert_array_equal(one_update(found.make, 1.0), [-0.0625, 0.03125])


def test_source_hash_follows_source_arguments_and_local_imports(
    module: Module,
) -> None:
    text = (
        "import optax\nfrom mine_helper import X\ndef f(lr, a=X): return optax.sgd(lr)"
    )

    def found(spec: str, helper: str, own: str = text) -> str:
        module("mine_helper", helper)
        module("mine_hashed", own)
        return resolver.resolve(spec).source_hash

    first = found("mine_hashed:f", "X = 1")
    assert found("mine_hashed:f", "X = 1") == first
    others = {
        found("mine_hashed:f", "X = 2"),
        found("mine_hashed:f", "X = 1", f"{text}  # changed"),
        found("mine_hashed:f(a=2)", "X = 1"),
        found("mine_hashed:f(a=3)", "X = 1"),
    }
    assert len(others | {first}) == 5


VERSIONS = """
import math
import optax
from functools import partial
from mine_parts import first, second as other
import mine_state

TABLE = []
EPS = 1e-8
SCALE = 0.5

class Own:
    value = 1.0

def shared(x): return x + EPS
def v1(lr): return optax.sgd(first(shared(lr)))
def v2(lr): return optax.adam(other(lr * SCALE * Own.value))
v3 = partial(v2)
class Pair:
    @staticmethod
    def make(lr): return v3(lr)

TABLE.append(shared)
"""
PARTS = """
def first(x): return x
def second(x): return x + 0 * len(_HIDDEN)
_HIDDEN = [1]
"""


def hashes(
    module: Module, versions: str = VERSIONS, parts: str = PARTS
) -> dict[str, str]:
    module("mine_state", "import jax")
    module("mine_parts", parts)
    module("mine_versions", versions)
    names = ("v1", "v2", "v3", "Pair.make")
    return {n: resolver.resolve(f"mine_versions:{n}").source_hash for n in names}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("optax.sgd(first(", "optax.sgd(0.5 * first(", {"v1"}),
        ("optax.adam(", "optax.lion(", {"v2", "v3", "Pair.make"}),
        ("SCALE = 0.5", "SCALE = 0.25", {"v2", "v3", "Pair.make"}),
        ("value = 1.0", "value = 2.0", {"v2", "v3", "Pair.make"}),
        ("partial(v2)", "partial(v1)", {"v3", "Pair.make"}),
        ("return v3(", "return v2(", {"Pair.make"}),
        # What they share, and what importing the module does.
        ("EPS = 1e-8", "EPS = 1e-7", {"v1", "v2", "v3", "Pair.make"}),
        ("append(shared)", "append(EPS)", {"v1", "v2", "v3", "Pair.make"}),
        ("import math", "import math, os", set()),
        (
            "TABLE = []\n",
            "TABLE = []\n# A comment.\ndef v0(lr): return v1(lr)\n",
            set(),
        ),
    ],
)
def test_a_change_of_one_function_leaves_the_hashes_of_its_neighbors(
    old: str, new: str, changed: set[str], module: Module
) -> None:
    before = hashes(module)
    assert old in VERSIONS
    after = hashes(module, VERSIONS.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


def test_the_source_hash_follows_names_into_other_modules(module: Module) -> None:
    def changed(versions: str, parts: str) -> set[str]:
        before, after = hashes(module, versions), hashes(module, versions, parts)
        return {name for name in before if before[name] != after[name]}

    others = {"v2", "v3", "Pair.make"}
    assert changed(VERSIONS, PARTS.replace("return x\n", "return 2 * x\n")) == {"v1"}
    assert changed(VERSIONS, PARTS.replace("[1]", "[2]")) == others
    # Where the source does not show what is used, everything counts.
    for dynamic in ("print(globals())", "from mine_parts import *"):
        versions = f"{VERSIONS}{dynamic}\n"
        assert changed(versions, PARTS.replace("[1]", "[2]")) == others | {"v1"}
    decorated = VERSIONS.replace("def v2", "def add(f): return f\n@add\ndef v2")
    assert changed(decorated, PARTS.replace("[1]", "[2]")) == others | {"v1"}
    script = (
        f"{VERSIONS}if __name__ == '__main__':\n    import sys\n    sys.exit(v1(1))\n"
    )
    assert hashes(module, script) == hashes(module)


def test_source_hash_of_installed_code_is_its_own_file_only() -> None:
    text = Path(optax.__file__).read_bytes()
    expected = hashlib.sha256(f"optax {len(text)}\n".encode() + text).hexdigest()
    assert sources.source_hash("optax") == expected


@pytest.mark.parametrize(
    ("spec", "plain"),
    [
        ("{}:heavy", "heavy_file:heavy"),
        ("{}:heavy(momentum=0.5)", "heavy_file:heavy(momentum=0.5)"),
        (
            "lookahead( {}:heavy(momentum=0.5) )",
            "lookahead(heavy_file:heavy(momentum=0.5))",
        ),
        (
            "lookahead(lookahead({}:heavy), sync_period=2)",
            "lookahead(lookahead(heavy_file:heavy), sync_period=2)",
        ),
    ],
)
def test_a_file_is_named_as_a_problem_is(
    spec: str, plain: str, tmp_path: Path, module: Module
) -> None:
    module(
        "heavy_file",
        "import optax\ndef heavy(lr, momentum=0.9): return optax.sgd(lr, momentum)",
    )
    (tmp_path / "my folder-1").mkdir()
    path = tmp_path / "my folder-1/../heavy_file.py"
    found, expected = resolver.resolve(spec.format(path)), resolver.resolve(plain)
    assert found.name == spec.format(path)
    np.testing.assert_array_equal(
        one_update(found.make, 0.1), one_update(expected.make, 0.1)
    )
    sweep = specs.sweep(f"{path}:heavy(momentum={{0.5, 0.9}})")
    assert sweep is not None
    assert sweep.variants["0.5"] == f"{path}:heavy(momentum=0.5)"


BAD_SPECS = {
    "adma": r"unknown optimizer 'adma'\. Did you mean 'adam",
    "lion": r"Did you mean 'optax\.lion'",
    "muon": r"Did you mean 'optax\.contrib\.muon'",
    "zzzzz": "list optimizers",
    "scale_by_adam": "unknown optimizer",
    "optax.adm": "'optax' has no 'adm'. Did you mean 'adam'",
    "optax.contrib.muno": "Did you mean 'muon'",
    "optax.scale_by_adam": "takes 'b1' first, not the learning rate",
    "optax.contrib.sam": "takes 'optimizer' first",
    "optax.scale_by_rprop(adam)": "takes 'learning_rate' first, not an optimizer",
    "optax.lookahead(adam)": r"params of its own class, optax\.LookaheadParams",
    "optax.apply_if_finite(adam)": "needs the argument 'max_consecutive_errors'",
    "optax.contrib.sam(adam)": "needs the argument 'adv_optimizer': .* MODULE:FUNCTION",
    "optax.contrib.dpsgd": "needs the argument 'l2_norm_clip'",
    "optax.contrib.schedule_free(optax.sgd, learning_rate=0.1)": "from the grid",
    "optax.clip(adam)": "needs the argument 'max_delta': add max_delta=VALUE",
    "optax.partition(adam)": "neither a wrapper around one optimizer nor a gradient",
    "optax.chain(adam)": "neither a wrapper around one optimizer nor a gradient",
    "optax.constant_schedule(adam)": "neither a wrapper around one optimizer nor",
    "optax.MultiSteps(adam, every_k_schedule=2)": "an object of type MultiSteps",
    "bloop(adam)": "needs the argument 'aux_weight'",
    "bloop": r"write bloop\(adam, aux_weight=VALUE\)",
    "mine_bad:good(adam)": "takes 'lr' first, not an optimizer",
    "optax.losses": "is of type module, not a function",
    "os.getcwd": "write os:getcwd",
    "": "cannot read the optimizer ''",
    "../evil:f": "cannot read the optimizer",
    "lib/mine_bad.py": r"name its function as well, lib/mine_bad\.py:FUNCTION",
    "sam(mine_bad.py)": r"name its function as well, mine_bad\.py:FUNCTION",
    "nowhere/mine_bad.py:good": "there is no file '.*/nowhere/mine_bad.py'",
    "sam(nowhere/my bad.py:good)": "there is no file '.*/nowhere/my bad.py'",
    "a b": "cannot read the optimizer",
    "adam(": "cannot read the arguments",
    "adam)": "cannot read the optimizer",
    "adam(0.9)": "cannot read the arguments",
    "adam(**{'b1': 0.9})": "cannot read the arguments",
    "adam(b1=0.9)(b2=0.9)": "cannot read the arguments",
    "adam(b1=0.9) + 1": "cannot read the arguments",
    "adam(b1=x)": r"b1=x is not a plain value",
    "adam(b1=open('f'))": "is not a plain value",
    "adam(beta1=0.9)": "no argument 'beta1'. It takes: b1, b2",
    "adam(weightdecay=0.1)": "no argument 'weightdecay'. Did you mean 'weight_decay",
    "adam(learning_rate=0.1)": "leave out 'learning_rate', which comes from the grid",
    "adam(b1=1.5)": "ValueError: adam: b1 must be in",
    "no_such_module_here:f": "no module 'no_such_module_here'",
    "mine_bad:missing": "'mine_bad' has no 'missing'",
    "mine_bad:god": "Did you mean 'good'",
    "mine_bad:VALUE": "is of type int, not a function",
    "mine_bad:no_rate": "building it with the learning rate 0.1 fails with TypeError",
    "mine_bad:returns_none": "returns an object of type NoneType, not an optax",
    "mine_bad:returns_pair": "returns an object of type tuple, not an optax",
    "mine_bad:python_number": "needs lr as a Python number",
    "mine_bad:float_gradient": "needs a gradient, the params or its state as a Python",
    "mine_bad:wrong_shape": "its updates have the shapes",
    "mine_bad:wrong_update": "one update of a tiny tree fails with KeyError",
    "mine_bad:growing_state": "changes the structure, shapes or dtypes of its state",
    "mine_broken:f": "importing 'mine_broken' fails with ZeroDivisionError: division",
    "mine_needs:f": "fails with ModuleNotFoundError: No module named 'not_installed_x'",
    "mine_syntax:f": "importing 'mine_syntax' fails with SyntaxError",
}


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_bad_spec_is_told_in_one_sentence(spec: str, module: Module) -> None:
    module(
        "mine_bad",
        """
        import optax
        VALUE = 3
        def good(lr): return optax.sgd(lr)
        def no_rate(): return optax.sgd(0.1)
        def returns_none(lr): pass
        def returns_pair(lr): return (lambda p: p, lambda g, s: (g, s))
        def python_number(lr): return optax.sgd(lr if lr > 0 else 1.0)
        def float_gradient(lr):
            clip = lambda g: optax.tree.scale(1 / float(optax.tree.norm(g)), g)
            return optax.chain(optax.stateless(lambda g, p: clip(g)), optax.sgd(lr))
        def wrong_shape(lr):
            return optax.stateless(lambda updates, params: 1.0)
        def wrong_update(lr):
            return optax.stateless(lambda updates, params: updates["nowhere"])
        def growing_state(lr):
            return optax.GradientTransformation(
                lambda params: (), lambda updates, state, params: (updates, (state,))
            )
        """,
    )
    module("mine_broken", "1 / 0")
    module("mine_needs", "import not_installed_x")
    module("mine_syntax", "def f(:")
    with pytest.raises(UserError, match=BAD_SPECS[spec]) as caught:
        resolver.resolve(spec)
    text = str(caught.value)
    assert "\n" not in text
    assert text.rstrip().endswith((".", "?", "optimizers", ":getcwd."))


def test_nothing_in_a_spec_is_executed(tmp_path: Path) -> None:
    file = tmp_path / "made"
    with pytest.raises(UserError):
        resolver.resolve(f"adam(b1=open({str(file)!r}, 'w'))")
    assert not file.exists()


def test_plain_names_are_their_own_slugs() -> None:
    assert paths.slug("adam") == "adam"
    assert paths.slug("optax.contrib.muon") == "optax.contrib.muon"


@given(st.lists(st.text(string.printable, min_size=1), min_size=2, unique=True))
def test_slugs_are_safe_and_differ_for_different_names(names: list[str]) -> None:
    slugs = [paths.slug(name) for name in names]
    allowed = set(string.ascii_lowercase + string.digits + "_.-")
    assert all(set(slug) <= allowed and slug for slug in slugs)
    assert all(len(slug) <= 80 for slug in slugs)
    assert not any(slug.startswith(".") for slug in slugs)
    assert len(set(slugs)) == len(slugs)


def test_names_that_differ_in_case_get_slugs_that_differ_without_it() -> None:
    first, second = paths.slug("mine:Opt"), paths.slug("mine:opt")
    assert first.lower() != second.lower()


def test_suggestions() -> None:
    assert specs.suggest("quik", ["quick", "smoke"]) == " Did you mean 'quick'?"
    assert specs.suggest("zzz", ["quick", "smoke"]) == ""
