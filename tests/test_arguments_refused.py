"""Bad input to every public parameter is refused in one line that names it, and changes nothing.

Public is what docs/, CONTRIBUTING and the lessons import from the rooms below, what the rooms' own ``__init__`` offer,
and every function that ``covlab.arguments.checked`` decorates. The parameters are listed with ``inspect``, and their
annotations decide which bad inputs are tried, so a new parameter is tested without a new line here.
"""

import ast
import importlib
import inspect
import math
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn

import covlab
from covlab.arguments import Allowed, allowed_by, checked
from covlab.course.experiments.trace_normalization import surfaces
from covlab.faults.small_run import small_run
from covlab.networks.model import BackProjectionNet, Network, SnapshotConvNet
from covlab.networks.source_grid import default_grid
from covlab.networks.unrolled import UnrolledNet
from covlab.plots import subplots
from covlab.plots.loss_terms import Terms
from covlab.plots.scale_invariance import Walk
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.ledger import Ledger
from covlab.training.loss import Loss, LossWeights
from covlab.training.recipe import Recipe
from covlab.training.study import Settings
from covlab.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
ROOMS = ("scenes", "networks", "training", "metrics", "estimators", "faults", "plots", "course.experiments")
TABLES = (Scenario, Recipe, Settings, LossWeights)
"""Dataclasses that check their fields themselves."""

WITHOUT = {
    "covlab.training.progress.Silent": "has no parameter",
    "covlab.networks.model.check_contract": "runs in every forward; see the test of the networks below",
    "covlab.faults.inject": "checks its names itself; see test_faults.py",
    "covlab.faults.Fault": "made by the package only",
    "covlab.faults.matrix.load_matrix": "has no parameter",
    "covlab.faults.matrix.csv": "the standard library's",
    "covlab.faults.evidence.OBSERVABLES": "a table",
}

# ---------------------------------------------------------------- what is public


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(covlab.__path__, "covlab."):
        if found.name.removeprefix("covlab.").startswith(ROOMS):
            yield importlib.import_module(found.name)


CHECKED_CODE = checked(lambda: None).__code__


def is_checked(function: object) -> bool:
    return callable(function) and getattr(inspect.unwrap(function, stop=is_call), "__code__", None) == CHECKED_CODE


def is_call(function: Any) -> bool:
    return getattr(function, "__code__", None) == CHECKED_CODE


@cache
def checked_functions() -> dict[str, Callable]:
    """{qualified name: function} of everything that is checked."""
    found: dict[str, Callable] = {}
    for module in modules():
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", "") != module.__name__:
                continue
            if inspect.isclass(thing):
                each = {f"{name}.{method}": function for method, function in vars(thing).items()}
            else:
                each = {name: thing}
            found |= {f"{module.__name__}.{key}": function for key, function in each.items() if is_checked(function)}
    return found


def documented() -> set[str]:
    """Return the qualified names of the functions and classes that texts and lessons take from the rooms."""
    sources = [path.read_text() for path in (ROOT / "lessons").glob("*.py")]
    for text in ("docs/faults.md", "docs/training.md", "CONTRIBUTING.md", "lessons/README.md"):
        written = (ROOT / text).read_text()
        sources += map(textwrap.dedent, re.findall(r"```python\n(.*?)```", written, re.DOTALL))
        sources += re.findall(r"`(from covlab\.[\w.]+ import [\w, ]+)", written)
    found: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue  # a fragment
        aliases: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("covlab."):
                aliases |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
            if isinstance(node, ast.ImportFrom) and node.module == "covlab":
                aliases |= {name.asname or name.name: f"covlab.{name.name}" for name in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
                found.add(f"{aliases[node.value.id]}.{node.attr}")
        found |= set(aliases.values())
    for room in ("estimators", "faults", "plots"):
        found |= {f"covlab.{room}.{name}" for name in getattr(importlib.import_module(f"covlab.{room}"), "__all__", ())}
    return {name for name in found if name.removeprefix("covlab.").startswith(ROOMS)}


def resolved(name: str) -> Any:
    """Return what a qualified name stands for; None if it is an attribute of something that is not a module."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return None


def test_every_documented_function_and_constructor_checks_its_arguments() -> None:
    unchecked = set()
    for name in documented():
        thing = resolved(name)
        if not callable(thing) or name in WITHOUT or thing in TABLES or get_origin(thing) is not None:
            continue
        if not is_checked(vars(thing).get("__init__") or thing.__init__ if inspect.isclass(thing) else thing):
            unchecked.add(name)
    assert unchecked == set()


# ---------------------------------------------------------------- good input


STUDENT = preset("student")
LENGTHS = {"B": 4, "L": 16, "M": 8, "N": 16, "K_max": 2, "true": 2, "guessed": 2, "p": 3, "q": 2, "n": 5}
LENGTHS |= {"azimuths": 3, "elevations": 3, "ranges": 3}


@cache
def pool() -> tuple:
    """One object of every kind that a parameter may want."""
    simulator = Simulator(STUDENT)
    batch, grid = simulator.draw(4, scene_generator(0, "test")), default_grid(STUDENT)
    LENGTHS["G"] = len(grid)
    stream = FreshScenes(simulator, 2, 2, 0)
    run = small_run(windows=1)
    estimate = run.estimate(run.model, batch)
    terms, walk = Terms({"lam_cov": 1.0}, np.ones((1, 1))), Walk([1.0], [1.0], [1.0], 0.0, {0: 1.0})
    numbers = (1, 2, 0.5, True, "student", "lam_cov", "fp32", "missing_division", "mdl", "weights", torch.complex64)
    objects = (batch, STUDENT, simulator, stream, FixedScenes(batch, 2, 0), grid, run, run.model, estimate, print)
    more = (LossWeights(), Loss(STUDENT, LossWeights()), Recipe(windows=1), Settings(), run.ledger, run.progress)
    kinds = (run.ranks, terms, terms.weighted({"lam_cov": 1.0}), walk, surfaces(0, 3), slice(2), torch.float32)
    last = (optuna.create_study(), torch.Generator(), subplots(size=(1, 1))[0], "cpu", ("adamw", "clip", "fp32"))
    more_kinds = ({1}, optuna.trial.create_trial(value=1.0), {"event": "step"}, torch.ones(5))
    return (*numbers, *objects, *more, *kinds, *last, *more_kinds)


def good(annotation: Any) -> Any:
    """Return a value that a parameter with this annotation may have."""
    allowed = allowed_by(annotation) or Allowed("anything", lambda value: True)
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if allowed.axes:
        pool()
        shape = [int(axis) if axis.isdigit() else LENGTHS[axis] for axis in allowed.axes]
        ones = (torch.ones(shape, dtype=dtype) for dtype in (torch.float32, torch.complex64, torch.int64))
        return next(value for tensor in ones for value in (tensor, {"a": tensor}) if allowed.accepts(value))
    for value in pool():
        for candidate in (value, [value], (value,), (0.5, 0.5), {"a": value}, {"a": [value]}):
            if allowed.accepts(candidate):
                return candidate
    plain = parts[0] if get_origin(annotation) in (Annotated, Union, UnionType) else annotation
    origin, inner = get_origin(plain), get_args(plain)
    if origin in (Annotated, Union, UnionType):
        return good(plain)
    if origin is tuple and inner[-1] is not ...:
        return tuple(map(good, inner))
    if origin in (list, tuple, Sequence):
        return [good(inner[0])] if origin is not tuple else (good(inner[0]),)
    if origin in (dict, Mapping):
        return {good(inner[0]): good(inner[1])}
    raise NotImplementedError(f"add a good value for {annotation} to the pool")


# ---------------------------------------------------------------- bad input

NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, "1", True, 1j, [1.0], object(), 10**5000]
BAD: dict[Any, list[Any]] = {
    int: [-1, 2.5, math.nan, math.inf, "3", True, 10**30, [1], np.int64(1)],
    float: NUMBERS,
    bool: [0, 1, "yes", math.nan, [True], object()],
    str: [3, b"text", ["text"], 2.5, object(), {}],
    Path: [3, b"path", ["path"], "", "a\0b", object(), 1000 * "x", f"{__file__}/inside"],
    torch.device: ["cuda:99", "nonsense", 3, "", 2.5, ["cpu"], object()],
    torch.dtype: ["complex64", torch.int8, float, 3, object()],
    Callable: [3, "print", {}, [], object()],
}
THINGS: list[Any] = ["text", 3, {}, [], object(), nn.Linear(1, 1), int, math.nan]


def bad(annotation: Any) -> list[Any]:
    """Return values of at least five kinds that a parameter with this annotation may not have."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        allowed = next(part for part in parts if isinstance(part, Allowed))
        wrong = bad(parts[0])
        if Tensor in (parts[0], *get_args(parts[0])) and allowed.axes:
            wrong += bad_tensors(good(annotation))
        if "one of" in allowed.expected and str in (parts[0], *get_args(parts[0])):
            wrong.append("nonsense")
        if "finite tensor" in allowed.expected or "finite complex" in allowed.expected:
            wrong.append(good(annotation) * math.nan)
        return wrong
    if origin in (Union, UnionType):
        kinds = [part for part in parts if part is not type(None)]
        first = next((kind for kind in (torch.device, Path) if kind in kinds), kinds[0])
        wrong = bad(first) if len(kinds) == 1 or first in BAD else [*THINGS, None]
        return [value for value in wrong if value is not None or type(None) not in parts]
    if annotation in BAD:
        return [*BAD[annotation], None] if annotation is not bool else BAD[bool]
    if origin is Callable:
        return [*BAD[Callable], None]
    if origin in (dict, Mapping):
        return [None, 3, "text", [], {}, {object(): object()}, object()]
    if origin is not None and isinstance(origin, type):
        return [None, 3, "text", math.nan, object(), True]
    if annotation is Tensor:
        return [None, 3, "text", [1.0], np.ones(3), object()]
    kin: list[Any] = [value for value in pool() if isinstance(value, annotation)]
    own = [asdict(value) for value in kin if is_dataclass(value) and not isinstance(value, type)][:1]
    empty = [value[:0] for value in kin if isinstance(value, Batch)]
    return [*THINGS, None, annotation, *own, *empty] if annotation is not dict else THINGS


def bad_tensors(value: Tensor) -> list[Any]:
    other = torch.float32 if value.is_complex() else torch.complex64
    return [value.unsqueeze(0), value[..., 0], value.to(other), value.to(torch.int8), value[:0], value.tolist()]


# ---------------------------------------------------------------- each parameter in turn


def parameters() -> Iterator[Any]:
    for name, function in checked_functions().items():
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != "self" and allowed_by(hints[parameter.name]) is not None:
                yield pytest.param(name, parameter.name, id=f"{name.removeprefix('covlab.')}-{parameter.name}")


def call(name: str, wrong: str, value: Any) -> None:
    """Call a function with good arguments, except that the one called ``wrong`` is ``value``."""
    function = checked_functions()[name]
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    args: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            owner = resolved(name.rpartition(".")[0])
            owners = (thing for thing in pool() if isinstance(thing, owner))
            new = function.__name__ == "__init__"
            args.append(owner.__new__(owner) if new else next(owners, None) or good_owner(owner))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            args += [value] if parameter.name == wrong else []
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= {"lam_cov": value} if parameter.name == wrong else {}
        elif parameter.name == wrong or parameter.default is parameter.empty:
            given = value if parameter.name == wrong else good(hints[parameter.name])
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = given
            else:
                args.append(given)
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            args.append(parameter.default)
    function(*args, **named)


def good_owner(owner: type) -> Any:
    """Make an object whose constructor needs nothing but a scenario or a grid."""
    hints = get_type_hints(inspect.unwrap(vars(owner)["__init__"]), include_extras=True)
    first = next(iter(inspect.signature(owner).parameters))
    return owner(good(hints[first]))


def state() -> tuple:
    random = torch.get_rng_state().sum().item(), str(np.random.get_state()), torch.get_default_dtype()
    return *random, tuple(plt.get_fignums()), hash(str(matplotlib.rcParams)), torch.is_grad_enabled()


@pytest.mark.parametrize("name, parameter", list(parameters()))
def test_bad_input_is_refused_by_name_and_changes_nothing(
    name: str, parameter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pool()  # its first call draws random numbers
    hints = get_type_hints(inspect.unwrap(checked_functions()[name]), include_extras=True)
    wrong, at = bad(hints[parameter]), state()
    assert len(wrong) >= 5
    for value in wrong:
        with pytest.raises((ValueError, TypeError)) as refusal:
            call(name, parameter, value)
        message = str(refusal.value)
        assert "\n" not in message and len(message) < 1500
        known = parameter if f"**{parameter}" not in str(inspect.signature(checked_functions()[name])) else "lam_cov"
        assert message.startswith(f"{known} must ")
        assert ", got " in message
    assert state() == at and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind, field", [(kind, field.name) for kind in TABLES for field in fields(kind)])
def test_a_bad_field_is_refused_by_name(kind: type, field: str) -> None:
    hint = get_type_hints(kind)[field]
    wrong = [(2, 1), 5, "ab", (math.nan, 1), [0, 1], (0, math.inf)] if get_origin(hint) is tuple else bad(hint)
    base = next(value for value in pool() if isinstance(value, kind))
    allowed_there = {("rician_factor_db", math.inf), ("rician_factor_db", -math.inf)}
    wrong = [value for value in wrong if not isinstance(value, float) or (field, value) not in allowed_there]
    wrong = [value for value in wrong if (field, value) not in [("provenance", {}), ("search", {})]]
    assert len(wrong) >= 5
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^(Scenario\.)?{field} must .*, got") as refusal:
            replace(base, **{field: value})  # type: ignore[type-var]
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("network", [BackProjectionNet, SnapshotConvNet, UnrolledNet])
def test_a_network_names_the_contract_tensor_that_does_not_fit(network: type[Network]) -> None:
    model, batch = network(STUDENT), pool()[11]
    tensors = {name: getattr(batch, name) for name in ("y", "H", "codes", "snr_db")}
    for name, tensor in tensors.items():
        for wrong in (*bad_tensors(tensor)[:4], tensor.double(), None, tensor.numpy(), tensor.to("meta")):
            with pytest.raises(ValueError, match="^(y|H|codes|snr_db|the network) must be "):
                model(**(tensors | {name: wrong}))
    with pytest.raises(ValueError, match=r"the network must be torch.float32 .* got torch.float64"):
        model.double()(**tensors)


def test_arguments_of_one_call_must_fit_together() -> None:
    nmse, scores = checked_functions()["covlab.training.loss.nmse"], checked_functions()["covlab.metrics.by_snr"]
    one, batch = torch.eye(3).expand(4, 3, 3) + 0j, pool()[11]
    with pytest.raises(ValueError, match="truth must be of N = 3, like estimate, got N = 2"):
        nmse(one, torch.eye(2).expand(4, 2, 2) + 0j)
    with pytest.raises(ValueError, match="truth must be on cpu, like estimate, got device = meta"):
        nmse(one, one.to("meta"))
    with pytest.raises(ValueError, match="scores must be of B = 4, like batch, got B = 3"):
        scores(batch, torch.ones(3))


def test_a_class_may_be_an_argument_although_its_objects_have_axes() -> None:
    @checked
    def both(network: Callable[..., nn.Module], batch: Batch) -> object:
        return network

    assert both(BackProjectionNet, pool()[11]) is BackProjectionNet


def test_a_path_of_the_other_kind_and_a_double_model_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    batch, file = pool()[11], tmp_path / "file"
    file.touch()
    model, recipe = BackProjectionNet(STUDENT, beams=8, width=8, rank=2), Recipe(windows=1)
    for wrong in (file, file / "run"):
        with pytest.raises(ValueError, match="^folder must be the path of a folder"):
            Trainer(model, FixedScenes(batch, 2, 0), batch, recipe, folder=wrong)
    with pytest.raises(ValueError, match="^path must be the path of a file"):
        Ledger(tmp_path)
    with pytest.raises(ValueError, match="^the network must be torch.float32"):
        Trainer(model.double(), FixedScenes(batch, 2, 0), batch, recipe, folder=tmp_path / "run")
    assert list(tmp_path.iterdir()) == [file] and not file.read_bytes()
