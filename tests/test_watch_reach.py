"""Test that the watch sees what is none of torch's own, and that what it cannot measure hides nothing else."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covlab.watch import Report, watch


class Descent:
    """An optimizer that is none of torch's; its kinds differ in how they hold the parameters."""

    def parameters(self) -> Iterator[Tensor]:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        if closure is not None:
            with torch.enable_grad():
                closure()
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.data.sub_(parameter.grad, alpha=0.01)

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None


class Grouped(Descent):
    def __init__(self, model: nn.Module) -> None:
        self.param_groups = [{"params": list(model.parameters()), "lr": 0.01}]

    def parameters(self) -> Iterator[Tensor]:
        return (one for group in self.param_groups for one in group["params"])  # type: ignore[attr-defined]


class Nested(Descent):
    __slots__ = ("lists",)

    def __init__(self, model: nn.Module) -> None:
        self.lists = ({"all": [tuple(model.parameters())]},)

    def parameters(self) -> Iterator[Tensor]:
        return iter(self.lists[0]["all"][0])


class OfModel(Descent):
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def parameters(self) -> Iterator[Tensor]:
        return self.model.parameters()


class Wrapper:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def param_groups(self) -> Any:
        return self.inner.param_groups

    def step(self, *args: Any) -> None:
        self.inner.step(*args)

    def zero_grad(self) -> None:
        self.inner.zero_grad()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01)


OPTIMIZERS: dict[str, Callable[[nn.Module], Any]] = {
    "with groups": Grouped,
    "with nested lists": Nested,
    "with a model": OfModel,
    "around torch's": lambda model: Wrapper(sgd(model)),
    "around one of its own": lambda model: Wrapper(Grouped(model)),
    "around a wrapper": lambda model: Wrapper(Wrapper(Nested(model))),
}


def accumulate(model: nn.Module, optimizer: Any, loss: Callable[[], Tensor], steps: int = 10) -> None:
    """Train with windows of four micro-batches, and forget to divide."""
    for number in range(1, 4 * steps + 1):
        loss().backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


def cross_entropy(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1])


def check_w01_is_all(report: Report) -> None:
    assert [(one.code, one.verdict, one.times) for one in report.findings] == [("W01", "fault", 10)], str(report)
    assert (report.seen["steps"], report.seen["optimizers"]) == (10, 1)


@pytest.mark.parametrize("is_older", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_is_what_steps_and_clears_gradients_and_is_seen_once(kind: str, is_older: bool) -> None:
    model = nn.Linear(8, 4)
    optimizer = OPTIMIZERS[kind](model) if is_older else None
    with watch() as w:
        optimizer = optimizer or OPTIMIZERS[kind](model)
        accumulate(model, optimizer, lambda: cross_entropy(model(torch.randn(8, 8))))
    check_w01_is_all(w.report())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_steps_of_any_optimizer_can_be_limited_with_a_closure_too(kind: str) -> None:
    model = nn.Linear(8, 4)
    optimizer = OPTIMIZERS[kind](model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(torch.randn(8, 8)))
        loss.backward()
        return loss

    with watch(steps=3) as w:
        closure()
        for _ in range(50):
            optimizer.step(closure)
    assert w.report().seen["steps"] == 3


def _backwards_only(model: nn.Module, x: Tensor) -> None:
    cross_entropy(model(x)).backward()


def _gradients_by_hand(model: nn.Module, x: Tensor) -> None:
    torch.autograd.grad(cross_entropy(model(x)), list(model.parameters()))


def _evaluations_only(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def _swallows_exceptions(model: nn.Module, x: Tensor) -> None:
    with contextlib.suppress(Exception):
        cross_entropy(model(x)).backward()


ENDLESS = {
    "backwards only": (_backwards_only, "without an optimizer step"),
    "forwards only": (lambda model, x: model(x), "without a backward or an optimizer step"),
    "gradients by hand": (_gradients_by_hand, "without a backward or an optimizer step"),
    "evaluations only": (_evaluations_only, "without a backward or an optimizer step"),
    "exceptions are ignored": (_swallows_exceptions, "without an optimizer step"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_step_limit_also_ends_a_loop_without_a_step_and_the_report_tells_why(name: str) -> None:
    work, why = ENDLESS[name]
    model, x, calls = nn.Linear(8, 4), torch.randn(2, 8), 0
    with watch(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=3) as w:
        for _ in range(20_000):
            work(model, x)
            calls += 1
    assert 100 < calls < 20_000 and why in w.report().summary


def test_a_step_limit_counts_the_steps_that_the_scaler_skips() -> None:
    model, x = nn.Linear(8, 4), torch.randn(2, 8)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    with watch(steps=3) as w:
        for _ in range(100):
            scaler.scale(cross_entropy(model(x)) * torch.inf).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert w.report().seen["steps"] == 3 and "ended after 3 steps of SGD" in " ".join(str(w.report()).split())


@pytest.mark.parametrize("micro_batches", [1, 200])
def test_a_step_limit_ends_no_window_and_no_evaluation(micro_batches: int) -> None:
    model, x = nn.Linear(8, 4), torch.randn(2, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(steps=2) as w:
        for _ in range(3):
            for _ in range(1000):
                _evaluations_only(model, x)
            for _ in range(micro_batches):
                (cross_entropy(model(x)) / micro_batches).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert w.report().seen["steps"] == 2


@pytest.mark.parametrize("is_older", [False, True])
def test_a_module_with_a_call_of_its_own_is_seen(is_older: bool) -> None:
    def define() -> type[nn.Module]:
        class Own(nn.Linear):
            def __call__(self, x: Tensor) -> Tensor:
                return self.forward(x)

        return Own

    older = define()
    original = vars(older)["__call__"]
    with watch() as w:
        model = (older if is_older else define())(8, 4)
        accumulate(model, sgd(model), lambda: cross_entropy(model(torch.randn(8, 8))))
    report = w.report()
    check_w01_is_all(report)
    assert report.seen["forwards"] == 40
    assert not {"W07", "W08", "W11", "W17"} & set(report.unchecked)
    assert vars(older)["__call__"] is original


class Subclass(Tensor):
    pass


def jagged() -> Tensor:
    return torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=torch.jagged)


def nested() -> Tensor:
    return torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)])


INPUTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor]]] = {
    "sparse": (lambda: torch.randn(8, 8).to_sparse(), Tensor.to_dense),
    "sparse rows": (lambda: torch.randn(8, 8).to_sparse_csr(), Tensor.to_dense),
    "nested": (nested, lambda x: torch.cat(x.unbind())),
    "jagged": (jagged, lambda x: torch.cat(x.unbind())),
    "complex": (lambda: torch.randn(8, 8, dtype=torch.complex64).conj(), lambda x: x.real),
    "quantized": (lambda: torch.quantize_per_tensor(torch.randn(8, 8), 0.1, 0, torch.qint8), Tensor.dequantize),
    "in 8 bits": (lambda: torch.randn(8, 8).to(torch.float8_e4m3fn), Tensor.float),
    "a subclass": (lambda: torch.randn(8, 8).as_subclass(Subclass), lambda x: x.as_subclass(Tensor)),
    "meta": (lambda: torch.zeros(8, 8, device="meta"), lambda x: torch.randn(8, 8)),
    "empty": (lambda: torch.zeros(0, 8), lambda x: torch.randn(8, 8)),
    "a number": (lambda: torch.tensor(2.0), lambda x: x * torch.randn(8, 8)),
    "no tensor": (lambda: {"x": [None]}, lambda x: torch.randn(8, 8)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_an_input_that_cannot_be_read_leaves_every_other_check(kind: str) -> None:
    make, read = INPUTS[kind]

    class Model(nn.Linear):
        def forward(self, x: Any) -> Tensor:
            return super().forward(read(x))

    model = Model(8, 4)
    with warnings.catch_warnings(), watch() as w:
        warnings.simplefilter("ignore")
        accumulate(model, sgd(model), lambda: cross_entropy(model(make())))
        model.eval()
        with torch.no_grad():
            model(make())
    report = w.report()
    check_w01_is_all(report)
    assert not {"W02", "W07", "W08", "W10", "W11", "W17", "W18"} & set(report.unchecked)


def test_a_step_that_raises_hides_no_later_step() -> None:
    model = nn.Linear(8, 4)
    optimizer = sgd(model)
    attempts = 0

    def fail_once(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            raise RuntimeError("out of memory")

    optimizer.register_step_pre_hook(fail_once)
    with watch(model, optimizer) as w:
        for _ in range(10):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(8, 8))).backward()
            try:
                optimizer.step()
            except RuntimeError:
                continue
    assert w.report().seen["steps"] == 9


def test_what_an_error_of_ours_switched_off_is_told_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covlab.watch.seen.measurements.gradient_size", lambda *_, **__: 1 / 0)
    model = nn.Linear(8, 4)
    with watch() as w:
        accumulate(model, sgd(model), lambda: cross_entropy(model(torch.randn(8, 8))))
    report = w.report()
    assert (
        report.unchecked["W02"]
        == "the size of the gradients could not be observed: ZeroDivisionError: division by zero"
    )
    assert [one.code for one in report.findings] == ["W01"]


@pytest.mark.slow
def test_gradients_that_fsdp_keeps_to_itself_belong_to_their_window(tmp_path: Any) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        sharded: Any = fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        number = 0

        def loss() -> Tensor:
            nonlocal number
            number += 1
            sharded.set_requires_gradient_sync(number % 4 == 0)
            return cross_entropy(model(torch.randn(8, 8)))

        with watch() as w:
            accumulate(model, sgd(model), loss)
    finally:
        dist.destroy_process_group()
    check_w01_is_all(w.report())
