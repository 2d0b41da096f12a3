"""Measure the cost of covlab.watch, and which bugs it and similar tools find in the same loops.

    covlab bench watch [--json FILE] [--rounds 8] [--only cost|loops|trainer]

Cost: processor time of a watched run, divided by that of the same run alone, with ten million parameters, over its
first 24 and its first 200 steps. Loops: the scripts of tests/loops that have a bug and a corrected version, and those
of correct loops; each runs in a process of its own. Each tool is used as intended: torch-audit through its autopatch,
torcheck on the optimizer and the model, trainproof on a log of loss, gradient norm and learning rate per step. Warnings
and worse count, unless the tool also reports them for the corrected loop. The results name tools that are not
installed. Trainer: the faults of covlab.faults in covlab's own trainer.
"""

import argparse
import contextlib
import csv
import gc
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import random
import runpy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from covlab.faults import FAULTS
from covlab.faults.small_run import exhibit, finish
from covlab.plots.watch_results import detections
from covlab.watch import TITLES, watch

Loop = Callable[[], object]

LOOPS = Path(__file__).parents[1] / "tests" / "loops"

# Findings that are true of these loops but not about a step: no visible progress (the loops are short and their labels
# are random), dimensions that are not multiples of 8, weight decay on biases, a bias before a normalization.
REMARKS = {"TP-DEAD-RUN", "TA200", "TA402", "TA400"}
NOT_RUN = {
    "traincheck 0.2": (
        "needs the trace of a correct run of the same script and invariants inferred from it, about half "
        "a minute of processor time per loop"
    )
}


# ---------------------------------------------------------------- what each tool reports for a loop


def ours(loop: Loop) -> list[str]:
    with watch() as w:
        loop()
    return [f"{finding.code} {finding.verdict}" for finding in w.report().flat if finding.verdict != "note"]


@contextlib.contextmanager
def every_optimizer(attach: Callable[[nn.Module, Optimizer], object]) -> Iterator[None]:
    """Call ``attach(model, optimizer)`` for every new optimizer, with the model whose parameters it holds."""
    original = Optimizer.__init__

    def init(self: Optimizer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        held = {id(parameter) for group in self.param_groups for parameter in group["params"]}
        models = [
            item
            for item in gc.get_objects()
            if isinstance(item, nn.Module) and held & {id(parameter) for parameter in item.parameters()}
        ]
        if models:
            waiting.append((max(models, key=lambda model: sum(1 for _ in model.modules())), self))

    waiting: list[tuple[nn.Module, Optimizer]] = []
    call = nn.Module.__call__

    def first_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # By now the subclass has finished its own __init__.
        while waiting:
            attach(*waiting.pop(0))
        return call(module, *args, **kwargs)

    with mock.patch.object(Optimizer, "__init__", init), mock.patch.object(nn.Module, "__call__", first_call):
        yield


def torch_audit(loop: Loop) -> list[str]:
    import torch_audit as peer

    auditors: list[Any] = []
    with every_optimizer(
        lambda model, optimizer: auditors.append(
            peer.autopatch(model, optimizer=optimizer, every_n_steps=1, suppress_internal_errors=True)
        )
    ):
        loop()
    found = {(finding.rule_id, str(finding.severity)) for auditor in auditors for finding in auditor.findings}
    return sorted(rule for rule, severity in found if "INFO" not in severity.upper())


def torcheck(loop: Loop) -> list[str]:
    from torcheck.registry import Registry

    registry = Registry()

    def attach(model: nn.Module, optimizer: Optimizer) -> None:
        registry.register(optimizer)
        registry.add_module_changing_check(model, module_name="model")
        registry.add_module_nan_check(model, module_name="model")
        registry.add_module_inf_check(model, module_name="model")

    with every_optimizer(attach):
        try:
            loop()
        except RuntimeError as error:
            return [" ".join(str(error).split())[:90]]
    return []


def trainproof(loop: Loop) -> list[str]:
    from trainproof.epoch import check_records

    records: list[dict[str, Any]] = []

    def before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        norms = [p.grad.norm() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.stack(norms).norm()) if norms else 0.0
        records.append(
            {
                "step": len(records) + 1,
                "loss": losses[-1] if losses else None,
                "grad_norm": norm,
                "lr": float(optimizer.param_groups[0]["lr"]),
            }
        )

    losses: list[float] = []
    original = torch.autograd.backward

    def backward(tensors: Tensor, *args: Any, **kwargs: Any) -> None:
        losses.append(float(tensors.detach()))
        original(tensors, *args, **kwargs)

    handle = register_optimizer_step_pre_hook(before)
    try:
        with mock.patch.object(torch.autograd, "backward", backward):
            loop()
    finally:
        handle.remove()
    return sorted(
        {finding["id"] for finding in check_records(records)["findings"] if finding["level"] in ("WARN", "FAIL")}
    )


TOOLS: dict[str, tuple[Callable[[Loop], list[str]], str]] = {
    "covlab.watch": (ours, "covlab"),
    "torch-audit": (torch_audit, "torch_audit"),
    "trainproof": (trainproof, "trainproof"),
    "torcheck": (torcheck, "torcheck"),
}


def said(tool: str, loop: str) -> list[str]:
    """Return what a tool says of a script of tests/loops. Fork a child for it, as tools leave hooks behind."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        silence = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(silence, number)
        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        try:
            found = TOOLS[tool][0](lambda: runpy.run_path(str(LOOPS / f"{loop}.py"), run_name="__main__"))
        except Exception as error:  # noqa: BLE001 - loops() reports a tool that fails on a loop
            found = [f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:120]]
        os.write(writes, json.dumps(found).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told) if told else ["failed: the process ended"]


def loops() -> list[dict]:
    installed = [name for name, (_, module) in TOOLS.items() if importlib.util.find_spec(module)]
    with (LOOPS / "table.tsv").open() as file:
        table = {row["file"]: row for row in csv.DictReader(file, delimiter="\t") if row["tier"] == "fast"}
    gc.freeze()  # else every child collects and copies what all of them share
    rows = []
    for name, entry in table.items():
        corrected = name.removesuffix("faulty") + "healthy" if name.endswith("_faulty") else None
        if corrected is None and not name.startswith("correct_"):
            continue
        says = {tool: said(tool, name) for tool in installed}
        known = {tool: said(tool, corrected) if corrected else [] for tool in installed}
        new = {
            tool: [one for one in says[tool] if not one.startswith("failed") and one not in REMARKS | set(known[tool])]
            for tool in installed
        }
        shown = name.removeprefix("textbook_").removeprefix("correct_").removesuffix("_faulty")
        knowable = entry["verdict"].removeprefix("later:") in ("fault", "warning", "note")
        expected = f"{entry['code']} {entry['verdict']}" if knowable and entry["code"] != "-" else None
        row = {
            "loop": shown,
            "file": name,
            "bug": corrected is not None,
            "expected": expected,
            "says": says,
            "new": new,
        }
        rows.append(row | {"corrected": known})
        print(f"{shown:40}" + "".join(f"{tool} {','.join(new[tool])[:22] or '-':24}" for tool in installed), flush=True)
    return rows


# ---------------------------------------------------------------- the museum in covlab's own trainer


def museum() -> list[dict]:
    rows = []
    for name in FAULTS:
        for injected in (False, True):
            with watch() as w:
                finish(exhibit(name, without=not injected))
            found: dict[str, str] = {}
            for finding in w.report().flat:
                found.setdefault(finding.code, finding.verdict)
            rows.append({"fault": name, "injected": injected, "found": found})
        print(f"{name:36} {rows[-1]['found']}   without: {rows[-2]['found']}", flush=True)
    return rows


# ---------------------------------------------------------------- cost

LAYERS, WIDTH = 5, 1440  # of the network whose steps are measured; with biases, ten million parameters


def trained_on_demand(turn: Connection, watched: str, batch: int, micro_batches: int) -> None:
    """Make one step of ten million parameters whenever ``turn`` asks for it, and answer with its processor time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    with contextlib.nullcontext() if watched == "alone" else watch(model, optimizer, light=watched == "light"):
        while turn.recv():
            xs = torch.randn(micro_batches, batch, WIDTH).unbind()
            began = time.process_time()
            for x in xs:
                (model(x).square().mean() / micro_batches).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            turn.send(time.process_time() - began)


def cost(rounds: int, batch: int = 64, micro_batches: int = 2, steps: tuple[int, ...] = (24, 200)) -> list[dict]:
    """Compare the same run alone and watched, from its first step on; the processes take turns step by step."""
    modes = ("alone", "full", "light")
    ratios: dict[tuple[str, int], list[float]] = {(mode, n): [] for mode in modes[1:] for n in steps}
    alone = []
    spawn = multiprocessing.get_context("spawn")
    order = random.Random(0)
    for _ in range(rounds):
        turns = {mode: spawn.Pipe() for mode in modes}
        processes = [
            spawn.Process(target=trained_on_demand, args=(theirs, mode, batch, micro_batches))
            for mode, (_, theirs) in turns.items()
        ]
        for process in processes:
            process.start()
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(max(steps)):
            for mode in order.sample(modes, len(modes)):  # whoever goes first finds a colder cache
                turns[mode][0].send(True)
                seconds[mode].append(turns[mode][0].recv())
        for ours, _ in turns.values():
            ours.send(False)
        for process in processes:
            process.join()
        alone.append(statistics.median(seconds["alone"]))
        for (mode, n), found in ratios.items():
            found.append(sum(seconds[mode][:n]) / sum(seconds["alone"][:n]))
        print("".join(f"{mode} {n}: {found[-1]:.3f}  " for (mode, n), found in ratios.items()), flush=True)
    return [
        {
            "light": mode == "light",
            "steps": n,
            "ratio": statistics.median(found),
            "low": min(found),
            "high": max(found),
            "rounds": rounds,
            "milliseconds": 1e3 * statistics.median(alone),
            "parameters": LAYERS * WIDTH * (WIDTH + 1),
            "batch": batch,
        }
        for (mode, n), found in ratios.items()
    ]


def write_matrix(results: dict, path: Path) -> None:
    """Write fault, where, invariant and verdict of each finding that the correct loop does not get as well."""
    rows = [("fault", "where", "invariant", "verdict")]
    rows += detections(results.get("trainer", []), results.get("loops", []))
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=("cost", "loops", "trainer"))
    parser.add_argument(
        "--json", type=Path, help="also write the results here; parts that were not run keep their old results"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "loops": loops,  # first: a process that has trained should not be forked
        "cost": lambda: cost(options.rounds),
        "trainer": museum,
    }
    results = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name, part in parts.items():
        if options.only in (None, name):
            results[name] = part()
    peers = {
        name: importlib.metadata.version(name)
        for name in ("torch-audit", "trainproof", "torcheck")
        if importlib.util.find_spec(name.replace("-", "_"))
    }
    missing = {name: "not installed" for name in ("torch-audit", "trainproof", "torcheck") if name not in peers}
    results |= {
        "command": "covlab bench watch",
        "versions": {"torch": torch.__version__} | peers,
        "not_run": NOT_RUN | missing,
        "invariants": TITLES,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    if options.json:
        write_matrix(results, options.json.with_suffix(".csv"))
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
