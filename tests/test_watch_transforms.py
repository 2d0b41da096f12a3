"""Test loops that compile, trace, export, fake, transform, wrap or intercept: same results, and no finding."""

import copy
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_training import batches, network
from torch import func, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode

from covlab.watch import TITLES, watch

Value = torch.Tensor | str | int
Loop = Callable[[], Sequence[Any]]
LOOPS: dict[str, Loop] = {}


def loop(function: Loop) -> Loop:
    LOOPS[function.__name__] = function
    return function


def train(
    model: nn.Module,
    call: Callable[[torch.Tensor], torch.Tensor] | None = None,
    steps: int = 12,
    clip: Callable[[list[nn.Parameter]], object] | None = None,
) -> list[nn.Parameter]:
    """Return the parameters after some steps with ``call`` in place of the model."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, y in batches(steps):
        optimizer.zero_grad()
        F.cross_entropy((call or model)(x), y).backward()
        if clip:
            clip(list(model.parameters()))
        optimizer.step()
    return list(model.parameters())


def whole(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, backend="eager", **options)


@loop
def compiled_without_a_break() -> Sequence[Value]:
    model = network()
    return train(model, whole(lambda x: torch.nan_to_num(model(x)).nan_to_num(), fullgraph=True))


@loop
def compiled_clipping() -> Sequence[Value]:
    if torch.__version__.startswith("2.6."):
        pytest.skip("PyTorch 2.6 cannot compile the clipping")
    return train(network(), clip=whole(lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0), fullgraph=True))


@loop
def compiled_step() -> Sequence[Value]:
    """Counters that the watch changes between compiled frames make no frame compile again."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    @whole
    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    for number, (x, y) in enumerate(batches(12)):
        with torch._dynamo.config.patch(error_on_recompile=number > 1):
            step(x, y)
    return list(model.parameters())


@loop
def compiled_backward() -> Sequence[Value]:
    if " " in torch.__file__:
        pytest.skip("PyTorch's compiler cannot link where the path of PyTorch has a space")
    torch._dynamo.reset()
    model = network()
    with torch._dynamo.utils.maybe_enable_compiled_autograd(True, fullgraph=True):
        return train(model)


@loop
def traced() -> Sequence[Value]:
    model = network()
    return train(model, torch.jit.trace(model, torch.ones(6, 8)))


@loop
def scripted() -> Sequence[Value]:
    def finite(x: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(x)

    model = network()
    finite = torch.jit.script(finite)
    script = torch.jit.script(model)
    return train(model, lambda x: finite(script(x)))


@loop
def exported() -> Sequence[Value]:
    model = network()
    graphs = [torch.export.export(model, (torch.ones(6, 8),), strict=strict).graph for strict in (True, False)]
    return [*train(model), *map(str, graphs)]


@loop
def symbolic() -> Sequence[Value]:
    class Finite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nan_to_num(self.inner(x))

    model = torch.fx.symbolic_trace(Finite())
    return [*train(model), str(model.graph)]


@loop
def made_to_a_graph() -> Sequence[Value]:
    model = network()
    graphs = [make_fx(lambda x: torch.autograd.grad(model(x).sum(), list(model.parameters())))(torch.ones(6, 8))]

    def step(x: torch.Tensor, y: torch.Tensor) -> Any:
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        return model[0].weight.grad

    graphs.append(make_fx(step)(*batches(1)[0]))
    return [*train(model), *(str(graph.graph) for graph in graphs)]


@loop
def gradients_of_samples() -> Sequence[Value]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(func.functional_call(model, parameters, (x[None],)), y[None])

    for x, y in batches(12):
        found = func.vmap(func.grad(loss), (None, 0, 0))(
            {name: p.detach() for name, p in model.named_parameters()}, x, y
        )
        for name, parameter in model.named_parameters():
            parameter.grad = found[name].mean(0)
        optimizer.step()
    return list(model.parameters())


@loop
def ensemble() -> Sequence[Value]:
    parameters, buffers = func.stack_module_state([network(seed=seed) for seed in range(3)])
    skeleton = copy.deepcopy(network()).to("meta")
    optimizer = torch.optim.SGD(parameters.values(), lr=0.05)
    for x, y in batches(12):
        out = func.vmap(
            lambda own, kept, x: func.functional_call(skeleton, (own, kept), (x,)), (0, 0, None), randomness="different"
        )(parameters, buffers, x)
        optimizer.zero_grad()
        F.cross_entropy(out.flatten(0, 1), y.repeat(3)).backward()
        optimizer.step()
    return list(parameters.values())


@loop
def jacobian_penalty() -> Sequence[Value]:
    model = network()
    return train(
        model,
        lambda x: (
            model(x)
            + 0.01 * func.vmap(func.jacrev(model), randomness="different")(x).mean()
            + 0 * func.jvp(model, (x,), (x,))[1]
        ),
    )


@loop
def faked() -> Sequence[Value]:
    with FakeTensorMode():
        train(network(), steps=40, clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0))
    return train(network())


@loop
def without_data() -> Sequence[Value]:
    with torch.device("meta"):
        model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        model(torch.ones(6, 8, device="meta")).sum().backward()
        optimizer.step()
    return train(network())


@loop
def intercepted() -> Sequence[Value]:
    """A user's mode and tensor subclass see the calls of the loop, and none of the watch."""
    seen = []

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            seen.append(str(function))
            return super().__torch_function__(function, types, args, kwargs or {})

    model = network()
    with Mode():
        result = train(model, lambda x: model(x.as_subclass(Own)))
    return [*(parameter.detach() for parameter in result), len(seen)]


@loop
def wrapped_parameters() -> Sequence[Value]:
    model = network()
    for layer in (model[0], model[3]):
        assert isinstance(layer, nn.Linear)
        layer.weight = nn.Parameter(TwoTensor(layer.weight.detach(), layer.weight.detach().clone()))
    return [
        getattr(p, "a", p)
        for p in train(model, steps=40, clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0))
    ]


@loop
def copied_and_pickled() -> Sequence[Value]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    result = train(model)
    for thing in (model, optimizer, torch.amp.GradScaler("cpu"), torch.optim.lr_scheduler.StepLR(optimizer, 2)):
        copy.deepcopy(thing)
        pickle.dumps(thing)
    assert pickle.loads(pickle.dumps(torch.nan_to_num)) is torch.nan_to_num
    assert pickle.loads(pickle.dumps(nn.utils.clip_grad_norm_)) is nn.utils.clip_grad_norm_
    return [*train(copy.deepcopy(model)), *result]


@loop
def sharded() -> Sequence[Value]:
    from torch import distributed
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_module, distribute_tensor, init_device_mesh

    if torch.__version__.startswith("2.6."):
        pytest.skip("PyTorch 2.6 cannot shard on a CPU")
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        mesh = init_device_mesh("cpu", (1,))
        replicated, sharded = distribute_module(network(), mesh), fully_shard(network(), mesh=mesh)
        assert isinstance(sharded, nn.Module)
        result: list[Any] = train(replicated, lambda x: replicated(distribute_tensor(x, mesh)).full_tensor(), steps=40)
        result += train(sharded, steps=40, clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0))
        return [parameter.full_tensor() for parameter in result]
    finally:
        distributed.destroy_process_group()


@loop
def captured() -> Sequence[Value]:
    """Under a capture like that of torch.cuda.graph, only calls of the loop are recorded. (Here they also run.)"""
    recorded = []

    class Capture(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            recorded.append(str(function))
            return function(*args, **(kwargs or {}))

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, y in batches(40):
        with pytest.MonkeyPatch.context() as patch, Capture():
            patch.setattr(torch.cuda, "is_initialized", lambda: True)
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [*model.parameters(), *recorded]


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_does_the_same_for_being_watched(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations
        torch.manual_seed(0)
        alone = LOOPS[name]()
        torch.manual_seed(0)
        with watch() as w:
            watched = LOOPS[name]()
    report = w.report()
    assert not w.broken and not w.observation.failures
    assert report.worst in (None, "note"), str(report)
    for one, other in zip(alone, watched, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_backwards_that_are_compiled_are_the_reason_why_nothing_was_checked() -> None:
    with watch() as w:
        LOOPS["compiled_backward"]()
    assert all("compiled" in why for why in w.report().unchecked.values())
    assert len(w.report().unchecked) == len(TITLES)


def test_a_compiler_that_was_first_used_under_a_watch_works_after_it() -> None:
    """The compiler builds its tables at the first use, from the functions that torch's names stand for then."""
    torch._dynamo.trace_rules.clear_lru_cache()
    with watch():
        watched = LOOPS["compiled_without_a_break"]()
    for one, other in zip(watched, LOOPS["compiled_without_a_break"](), strict=True):
        assert torch.equal(one, other)
