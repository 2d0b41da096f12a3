"""Laws of the machine check, and of the choice of a device."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Never

import pytest

from covlab.course import environment


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda bundle, **_: texts.append(bundle["text/plain"] if isinstance(bundle, dict) else bundle.data),
    )
    return texts


def test_a_line_that_fails_says_what_to_do_and_all_lines_are_shown(shown: list[str]) -> None:
    lines = environment.check_machine()
    assert all(line.advice for line in lines if line.ok is not True)
    environment.show_machine()
    assert all(line.what in shown[0] for line in lines)
    assert ("machine is ready" in shown[1]) == all(line.ok is not False for line in lines)


def test_without_torch_the_rest_is_still_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert [line.what for line in environment.check_machine() if line.ok is False] == ["PyTorch"]


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("Python", lambda patch: patch.setattr(environment, "PYTHON", (99, 0))),
        ("PyTorch", lambda patch: patch.setitem(__import__("sys").modules, "torch", None)),
        ("free memory", lambda patch: patch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**6))),
        ("free disk", lambda patch: patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))),
        ("mixed precision, fp16", lambda patch: patch.setattr("torch.autocast", _refuse)),
    ],
)
def test_each_failing_line_is_found(name: str, spoil: Callable[[pytest.MonkeyPatch], None]) -> None:
    looks = {
        "Python": environment._python,
        "PyTorch": environment._torch,
        "free memory": environment._memory,
        "free disk": environment._disk,
        "mixed precision, fp16": lambda: environment._precisions()[0],
    }
    assert looks[name]().ok is True
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        line = looks[name]()
    assert line.what == name and line.ok is False and line.advice


def _refuse(*_: object) -> Never:
    raise RuntimeError("autocast: not here")


def test_without_a_gpu_the_gpu_profile_says_so_and_goes_on(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert environment.choose_device("gpu") == "cpu"
    assert "No GPU here" in shown[0]
    assert environment.choose_device("cpu") == "cpu" and len(shown) == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert environment.choose_device("gpu") == "cuda"
    with pytest.raises(ValueError, match="cpu, gpu"):
        environment.choose_device("tpu")


def test_a_gpu_gets_the_full_arrays_and_says_so(shown: list[str]) -> None:
    assert environment.choose_scenario("cpu").name == "student" and not shown
    assert environment.choose_scenario("cuda").name == "full"
    assert "144 elements" in shown[0]
