"""Test how the watch knows samples again, reads what an evaluation is for, and finds where gradients are cut off."""

import linecache
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _len_torch_function_stack

from covlab.watch import watch
from covlab.watch.invariants.declared_purpose import Path, declared_purpose
from covlab.watch.seen.fingerprints import Fingerprints, _join
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.models import first_samples


def fingerprints(inputs: Tensor) -> list[int]:
    prints = Fingerprints()
    flat = prints._flatten(inputs)
    assert flat is not None
    return _join(prints._compute(flat).tolist())


def inputs_of_many_kinds() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    bits = torch.tensor(list(product((0, 1), repeat=12)))
    return {
        "all sets of 12 bits": torch.cat([bits, 1 - bits, torch.zeros(len(bits), 8, dtype=torch.int64)], 1),
        "the same in floating point": torch.cat([bits, torch.ones(len(bits), 20)], 1).double(),
        "one-hot": torch.eye(64, dtype=torch.bfloat16),
        "one token of many": torch.eye(300, dtype=torch.int64),
        "permutations": torch.stack([torch.randperm(40, generator=generator) for _ in range(500)]),
        "signs": torch.randint(0, 2, (2000, 64), generator=generator) * 2.0 - 1,
        "complex": torch.randn(50, 4, 4, dtype=torch.complex64, generator=generator),
        "bytes": torch.randint(0, 256, (200, 3, 4, 4), generator=generator).to(torch.uint8),
    }


@pytest.mark.parametrize("kind", inputs_of_many_kinds())
def test_samples_have_the_same_fingerprint_where_they_are_equal_and_only_there(kind: str) -> None:
    inputs = inputs_of_many_kinds()[kind]
    inputs = inputs if inputs.is_complex() else inputs.unique(dim=0)
    all_at_once = fingerprints(inputs)
    assert len(set(all_at_once)) == len(inputs)
    halves = {one & (2**64 - 1) for one in all_at_once}, {one >> 64 for one in all_at_once}
    assert [len(half) for half in halves] == [len(inputs)] * 2  # either half alone tells them apart
    shuffled = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
    by_threes = [one for batch in inputs[shuffled].split(3) for one in fingerprints(batch)]
    assert by_threes == [all_at_once[number] for number in shuffled.tolist()]


def test_nodes_of_a_graph_are_no_samples_and_samples_are_found_in_what_a_model_gets() -> None:
    x, labels = torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)
    assert first_samples((labels, x)) is x
    assert first_samples(({"labels": labels, "x": x},)) is x
    assert first_samples((x, torch.zeros(2, 9, dtype=torch.int64))) is None
    assert first_samples((x, torch.eye(5).to_sparse())) is None


LOOP = """
def {function}(data):
    {head}
        {result} = model(x)
    {report}

for epoch in range(4):
    fit(train_set)
    {outer}
"""


@pytest.mark.parametrize(
    ("purpose", "changes"),
    [
        ("validation", {"head": "for x, y in val_loader:"}),
        ("validation", {"head": "for x, y in val_loader:", "report": "print('train', a, 'val', b)"}),
        ("validation", {"head": "for x in batches(X_test):"}),
        ("validation", {"outer": "validation_loss = score(held_out)"}),
        ("training", {"outer": "train_accuracy = score(some)"}),
        ("training", {"report": "print('training accuracy', n)"}),
        ("training", {"report": "return n  # how well it fits the training data"}),
        ("training", {"function": "training_error"}),
        ("unknown", {}),
        ("unknown", {"head": "for x, y in train_loader:"}),  # what is evaluated is known to be trained on
        ("unknown", {"outer": "train_error = validate(train_set)", "function": "validate"}),
        ("unknown", {"outer": "print('train', score(train_set), 'val', score(val_set))"}),
        ("unknown", {"report": "print('train', a, 'eval', b)"}),
        ("unknown", {"head": "for value, device in data:"}),
    ],
)
def test_the_words_of_a_loop_tell_what_an_evaluation_is_for(purpose: str, changes: dict[str, str]) -> None:
    usual = {"function": "score", "head": "for x in data:", "result": "n", "report": "return n", "outer": "score(some)"}
    source = LOOP.format(**usual | changes)
    lines = source.splitlines(keepends=True)
    linecache.cache["loop.py"] = len(source), None, lines, "loop.py"

    def path(*numbers: int) -> Path:
        return tuple(CodeLocation("loop.py", number, "score" if number < 6 else "<module>") for number in numbers)

    name = (usual | changes)["function"]
    evaluation = (CodeLocation("loop.py", 4, name), CodeLocation("loop.py", 9, "<module>"))
    assert declared_purpose(evaluation, [path(8)]) == purpose


class Cut(nn.Module):
    """Two layers, and what is done to the first one's output between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.between = nn.Linear(6, 5), nn.Linear(5, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x).tanh()))


def train(model: nn.Module, steps: int = 16) -> list[Tensor]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(8, 6, generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


CUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda h: h.detach(),
    "data": lambda h: h.data,
    "tolist": lambda h: torch.tensor(h.tolist()),
    "numbers": lambda h: torch.tensor([[one.item() for one in row] for row in h]),
    "numpy": lambda h: torch.from_numpy(h.detach().numpy() * 2 + 1),
    "rounding of indices": lambda h: F.one_hot(h.argmax(1), 5).float(),
    "asked for again": lambda h: h.detach().requires_grad_(),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_between_layers_is_found_at_its_line_and_the_search_changes_nothing(name: str) -> None:
    alone = train(Cut(CUTS[name]))
    with watch() as w:
        watched = train(Cut(CUTS[name]))
    finding = w.report().of("W07")
    assert finding is not None and finding.verdict == "fault"
    assert finding.location is not None and f'"{name}"' in finding.location.code
    assert "first.bias, first.weight" in finding.says
    assert all(torch.equal(one, other) for one, other in zip(alone, watched, strict=True))
    assert _len_torch_function_stack() == 0


@pytest.mark.parametrize("free", [1, 3])
def test_parameters_without_a_name_are_counted_beside_those_that_have_one(free: int) -> None:
    model, others = (
        nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]),
        [nn.Parameter(torch.ones(2)) for _ in range(free)],
    )
    head, cut = nn.Sequential(model[0]), nn.Sequential(model[1])
    optimizer = torch.optim.SGD([*model.parameters(), *others], lr=0.1)
    with watch() as w:
        for _ in range(20):
            optimizer.zero_grad()
            x = torch.randn(4, 2)
            (head(x) + (cut(x) * sum(others)).detach()).sum().backward()
            optimizer.step()
    finding = w.report().of("W07")
    assert finding is not None and finding.number == 2 + free
    assert finding.says.count("no model that was called") == finding.says.count("0.bias, 0.weight") == 1
    assert f"{free} tensor{'s' * (free > 1)} of no model that was called" in finding.says


def test_an_output_that_is_only_logged_is_no_cut() -> None:
    logged: list[object] = []

    def log(h: Tensor) -> Tensor:
        logged.append(h.detach().numpy().tolist())
        logged.append(h.argmax(1).tolist())
        return torch.ones(len(h), 5)

    with watch() as w:
        train(Cut(log))
    finding = w.report().of("W07")
    assert finding is not None and finding.verdict == "note"
    assert "first" in finding.says and "second" in finding.says


def test_a_cut_is_found_also_if_the_loop_sets_a_default_device() -> None:
    """The default device is a mode of PyTorch's own, which stays below all others."""
    torch.set_default_device("cpu")
    try:
        with watch() as w:
            train(Cut(CUTS["detach"]))
    finally:
        torch.set_default_device(None)
    finding = w.report().of("W07")
    assert finding is not None and finding.verdict == "fault"
    assert _len_torch_function_stack() == 0


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_calls_are_recorded_also_if_the_loop_sets_a_default_device_and_the_loop_can_end_it(steps: int) -> None:
    with watch() as w:
        torch.set_default_device("cpu")
        try:
            model = nn.Linear(8, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            for _ in range(steps):
                x = torch.randn(16, 8)
                loss = F.mse_loss(model(x), x.sum(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        finally:
            torch.set_default_device(None)
    assert _len_torch_function_stack() == 0
    finding = w.report().of("W21")
    assert (finding is not None and finding.location is not None and "mse_loss" in finding.location.code) == (steps > 1)


@pytest.mark.parametrize("before", [True, False], ids=["ends inside", "begins inside"])
def test_modes_of_the_loop_that_end_or_begin_inside_a_search_keep_their_order(before: bool) -> None:
    """A search begins in the second step and ends in the third."""

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            return function(*args, **(kwargs or {}))

    model, mode = Cut(CUTS["detach"]), Mode()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch():
        for number in range(1, 7):
            if number == 2 and before:
                mode.__enter__()
            model(torch.ones(4, 6)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            if number == 2:
                mode.__exit__(None, None, None) if before else mode.__enter__()
            if number == 4 and not before:
                assert _get_current_function_mode() is mode
                mode.__exit__(None, None, None)
        assert _len_torch_function_stack() == 0


@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize("logs", [True, False])
@pytest.mark.parametrize("windows", [1, 3])
def test_a_call_in_evaluation_mode_is_an_evaluation_unless_a_backward_comes_through_it(
    with_gradient: bool, logs: bool, windows: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    held_out = torch.randn(16, 8, generator=generator)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch() as w:
        for _ in range(4):
            for batch in x.split(16):
                for part in batch.chunk(windows):
                    loss = model(part).square().mean() / windows
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if logs:
                    w.log(loss)
            model.eval()  # and training never comes back to its own mode
            with torch.set_grad_enabled(with_gradient):
                for part in held_out.split(8):
                    model(part)
    report = w.report()
    assert report.seen["evaluations"] == 4 * 2
    assert report.of("W17") is not None and report.of("W16") is None and "W16" not in report.unchecked


def test_a_batch_that_is_attacked_in_evaluation_is_still_evaluated() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch() as w:
        for _ in range(3):
            model.train()
            for batch in x.split(16):
                optimizer.zero_grad()
                model(batch).square().mean().backward()
                optimizer.step()
            model.eval()
            for batch in x[:32].split(16):
                model(batch.clone().requires_grad_()).square().mean().backward()
    assert w.report().seen["evaluations"] == 3 * 2 and w.report().of("W16") is not None


@pytest.mark.parametrize("steps", [20, 60, 130])
def test_a_finding_that_was_looked_for_in_a_few_steps_names_no_last_one(steps: int) -> None:
    model, target = nn.Linear(8, 1), torch.randn(16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch() as w:
        for _ in range(steps):
            optimizer.zero_grad()
            F.mse_loss(model(torch.randn(16, 8)), target + 1).backward()
            optimizer.step()
    finding = w.report().of("W21")
    assert finding is not None and finding.last is None and finding.when == f"first seen in step {finding.first}"
    assert finding.first is not None and finding.first <= 2


def test_a_loss_that_is_logged_with_its_graph_raises_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    model = nn.Linear(8, 1)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with watch(model) as w:
            w.log(model(torch.randn(4, 8)).mean())
    finally:
        torch.set_warn_always(always)
    assert not [str(one.message) for one in recwarn if "scalar" in str(one.message)]
