"""The parameters of a lesson: plain literals in one cell. An override must have a known name and the same type.

Without this check, papermill only warns about an unknown name, runs the lesson with its defaults and exits with 0.
"""

import ast

from IPython.core.inputtransformer2 import TransformerManager

from covlab.arguments import SEED

PROFILES = ("cpu", "gpu")


def defaults(source: str, later: list[str], *, unread: bool = False) -> dict:
    """Return names and values of a parameters cell.

    source: text of that cell. later: text of the code cells after it. unread: whether these may ignore parameters.
    Raises ValueError for anything but plain literals, an unknown profile, and a name that no later cell loads.
    """
    values = {}
    for statement in ast.parse(source).body:
        try:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = ast.literal_eval(value)
                case _:
                    raise ValueError
        except ValueError:
            raise ValueError(
                f"the parameters cell holds {ast.unparse(statement)!r}; expected only lines such as seed = 0, with "
                "plain literals"
            ) from None
    _check_profile(values)
    loaded = set().union(*map(_names_loaded, later))
    idle = [name for name in values if name not in loaded]
    if idle and not unread:
        raise ValueError(
            f"no later cell reads the parameter {', '.join(idle)}; use it, remove it, "
            "or tag the parameters cell 'unread'"
        )
    return values


def check_overrides(values: dict, overrides: dict) -> None:
    """Raise ValueError if ``overrides`` has a name or a type that the lesson's ``values`` do not have."""
    for name, value in overrides.items():
        if name not in values:
            valid = ", ".join(f"{known} = {default!r}" for known, default in values.items()) or "none"
            raise ValueError(f"no parameter {name!r}; there are: {valid}")
        expected, came = type(values[name]), type(value)
        if values[name] is not None and came is not expected and (expected, came) != (float, int):
            raise ValueError(
                f"parameter {name!r} is {value!r}, of type {came.__name__}; expected "
                f"{expected.__name__}, such as {values[name]!r}"
            )
    if "seed" in overrides:
        SEED.check("parameter 'seed'", overrides["seed"])
    _check_profile(overrides)


def _check_profile(values: dict) -> None:
    if values.get("profile", "cpu") not in PROFILES:
        raise ValueError(f"parameter 'profile' is {values['profile']!r}; expected one of {', '.join(PROFILES)}")


def _names_loaded(source: str) -> set[str]:
    tree = ast.parse(TransformerManager().transform_cell(source))  # magics become calls
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
