"""Measure the cost of covlab.watch, and which bugs it and similar tools find in the same loops.

    covlab bench watch [--json FILE] [--rounds 8] [--only cost|loops|trainer]

Cost: processor time of a watched run, divided by that of the same run alone, with ten million parameters, over its
first 24 and its first 200 steps.

Loops: every script of tests/loops that runs in one process, under each tool, in a process of its own. Each tool is used
as intended: torch-audit through its autopatch, torcheck on the optimizer and the model, torchmortem around the loop,
trainproof on a log of loss, gradient norm and learning rate per step, torchtest2 on the model with its first batch, its
loss and its optimizer; TorchFix and mldoct read the script and do not run it. Warnings and worse count, unless the tool
also reports them for the corrected loop. The results name the tools that did not run, and why.

Trainer: the faults of covlab.faults in covlab's own trainer.
"""

import argparse
import contextlib
import copy
import csv
import gc
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import multiprocessing
import os
import platform
import random
import re
import runpy
import signal
import statistics
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._pytree import tree_map_only

from covlab.faults import FAULTS
from covlab.faults.small_run import exhibit, finish
from covlab.plots.watch_results import detections
from covlab.watch import TITLES, watch

LOOPS = Path(__file__).parents[1] / "tests" / "loops"
LIMIT = 120  # seconds of a tool on a loop

# Messages that are true of these loops but not about a step: no visible progress (the loops are short and their labels
# are random), dimensions that are not multiples of 8, weight decay on biases, a bias before a normalization, a loader
# without workers.
REMARKS = {"TP-DEAD-RUN", "TA200", "TA402", "TA400", "cpu_bottleneck"}
NOT_RUN = {
    "TrainCheck 0.2.0": (
        "it needs the trace of a correct run of the same script, and infers invariants from it: more than a minute "
        "of processor time per loop"
    )
}


class Message(NamedTuple):
    """What a tool says: what it calls it, and for covlab.watch, the line of code and the whole text."""

    name: str
    line: str = ""
    text: str = ""

    @property
    def counts(self) -> bool:
        return self.name not in REMARKS and not self.name.startswith("failed") and not self.name.endswith(" note")


def run(script: Path) -> None:
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(script), run_name="__main__")


# ---------------------------------------------------------------- what each tool reports for a loop


def ours(script: Path) -> list[Message]:
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "report.json")
        arguments = ["--fail-on", "never", "--json", str(written), str(script)]
        with mock.patch.object(sys, "argv", ["covlab.watch", *arguments]), contextlib.suppress(SystemExit):
            runpy.run_module("covlab.watch", run_name="__main__", alter_sys=True)
        causes = json.loads(written.read_text())["findings"]
    return [message_of(one) for cause in causes for one in (cause, *cause["follows"])]


def message_of(finding: dict[str, Any]) -> Message:
    """Return a finding of the report as a message."""
    return Message(
        f"{finding['code']} {finding['verdict']}",
        finding["site"]["code"] if finding["site"] else "",
        f"{finding['code']} {finding['title']}: {finding['says']} {finding['fix']}",
    )


@contextlib.contextmanager
def every_optimizer(attach: Callable[[list[tuple[nn.Module, Optimizer]]], object]) -> Iterator[None]:
    """Call ``attach([(model, optimizer), …])`` for new optimizers, with the models whose parameters they hold.

    If such a model is gone because the script has replaced it, the model that is called first takes its place: it is
    what a user would hand over.
    """
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
            whole = max(models, key=lambda model: sum(1 for _ in model.modules()))
            waiting.append((weakref.ref(whole), self))

    waiting: list[tuple[weakref.ref[nn.Module], Optimizer]] = []
    call = nn.Module.__call__

    def first_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # By now the subclass has finished its own __init__.
        if waiting:
            pairs = [(model() or module, optimizer) for model, optimizer in waiting]
            waiting.clear()
            attach(pairs)
        return call(module, *args, **kwargs)

    with mock.patch.object(Optimizer, "__init__", init), mock.patch.object(nn.Module, "__call__", first_call):
        yield


@contextlib.contextmanager
def every_loss() -> Iterator[list[float]]:
    """Collect the value of every loss that is propagated."""
    losses: list[float] = []
    original = torch.autograd.backward

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(tensors, Tensor) and tensors.numel() == 1:
            losses.append(float(tensors.detach()))
        original(tensors, *args, **kwargs)

    with mock.patch.object(torch.autograd, "backward", backward):
        yield losses


def torch_audit(script: Path) -> list[Message]:
    import torch_audit as peer

    auditors: list[Any] = []
    with every_optimizer(
        lambda pairs: auditors.extend(
            peer.autopatch(model, optimizer=optimizer, every_n_steps=1, suppress_internal_errors=True)
            for model, optimizer in pairs
        )
    ):
        run(script)
    return [
        Message(finding.rule_id)
        for auditor in auditors
        for finding in auditor.findings
        if "INFO" not in str(finding.severity).upper()
    ]


def trainproof(script: Path) -> list[Message]:
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

    register_optimizer_step_pre_hook(before)
    with every_loss() as losses:
        run(script)
    return [Message(one["id"]) for one in check_records(records)["findings"] if one["level"] in ("WARN", "FAIL")]


def torcheck(script: Path) -> list[Message]:
    from torcheck.registry import Registry

    registry = Registry()

    def attach(pairs: list[tuple[nn.Module, Optimizer]]) -> None:
        for _, optimizer in pairs:
            registry.register(optimizer)
        for model in {model for model, _ in pairs}:
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    registry.add_tensor_changing_check(parameter, tensor_name=name, module_name="model")
            registry.add_module_nan_check(model, module_name="model")
            registry.add_module_inf_check(model, module_name="model")

    with every_optimizer(attach):
        try:
            run(script)
        except RuntimeError as error:
            return [Message(" ".join(str(error).split())[:90])]
    return []


def torchmortem(script: Path) -> list[Message]:
    from torchmortem import Autopsy
    from torchmortem.types import Severity

    autopsies: dict[Optimizer, Any] = {}

    def attach(pairs: list[tuple[nn.Module, Optimizer]]) -> None:
        for model, optimizer in pairs:
            autopsies[optimizer] = Autopsy(model, optimizer=optimizer)
            autopsies[optimizer].attach()

    def after(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if optimizer in autopsies and losses:
            autopsies[optimizer].step(loss=losses[-1])

    register_optimizer_step_post_hook(after)
    with every_optimizer(attach), every_loss() as losses:
        run(script)
    for autopsy in autopsies.values():
        autopsy.detach()
    return [
        Message(finding.title.partition(" in ")[0])  # without the name of a layer
        for autopsy in autopsies.values()
        for finding in autopsy.get_report().findings
        if finding.severity >= Severity.WARNING
    ]


LOSSES = [
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "kl_div", "l1_loss"),
    *("mse_loss", "nll_loss", "smooth_l1_loss"),
]


def torchtest2(script: Path) -> list[Message]:
    from torchtest2 import check_model

    first: dict[Optimizer, dict[str, Any]] = {}  # what its first batch met, as it was before the first step
    outputs: dict[int, dict[str, Any]] = {}

    def attach(pairs: list[tuple[nn.Module, Optimizer]]) -> None:
        for model, optimizer in pairs:
            follow(model, optimizer)

    def follow(model: nn.Module, optimizer: Optimizer) -> None:
        def called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if module.training and optimizer not in first:
                hook.remove()
                inputs: Any = args[0] if len(args) == 1 else args
                if kwargs:
                    inputs = dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
                seen = {"model": model, "inputs": tree_map_only(Tensor, Tensor.detach, inputs), "optimizer": optimizer}
                first[optimizer] = outputs[id(output)] = copy.deepcopy(seen) | {"output": output}

        hook = model.register_forward_hook(called, with_kwargs=True)

    def noted(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(output: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            value = loss(output, target, *args, **kwargs)
            if value.dim() == 0 and (seen := outputs.pop(id(output), None)) is not None:
                seen["targets"] = target.detach().clone()
                seen["loss_fn"] = lambda output, target: loss(output, target, *args, **kwargs)
            return value

        return call

    with every_optimizer(attach), contextlib.ExitStack() as patches:
        for name in LOSSES:
            patches.enter_context(mock.patch.object(nn.functional, name, noted(getattr(nn.functional, name))))
        run(script)
    messages = []
    for seen in first.values():
        del seen["output"]
        report = check_model(seen.pop("model"), seen.pop("inputs"), seen.pop("targets", None), **seen)
        messages += [Message(result.name) for result in (*report.warnings, *report.failures)]
    return messages


def torchfix(script: Path) -> list[Message]:
    from torchfix.torchfix import DISABLED_BY_DEFAULT, TorchChecker

    lines = script.read_text().splitlines(keepends=True)
    codes = [text.split()[0] for _, _, text, _ in TorchChecker(None, lines).run()]
    return [Message(code) for code in codes if not code.startswith(tuple(DISABLED_BY_DEFAULT))]


def mldoct(script: Path) -> list[Message]:
    from mldoctor.linter import lint_script

    findings, _ = lint_script(str(script))
    return [Message(finding["type"]) for finding in findings if finding["severity"] != "INFO"]


class Tool(NamedTuple):
    says: Callable[[Path], list[Message]]
    module: str  # that it needs


TOOLS = {  # by the name of the package, except ours
    "covlab.watch": Tool(ours, "covlab.watch"),
    "torch-audit": Tool(torch_audit, "torch_audit"),
    "trainproof": Tool(trainproof, "trainproof.epoch"),
    "torcheck": Tool(torcheck, "torcheck.registry"),
    "torchmortem": Tool(torchmortem, "torchmortem"),
    "torchtest2": Tool(torchtest2, "torchtest2"),
    "TorchFix": Tool(torchfix, "torchfix.torchfix"),
    "mldoct": Tool(mldoct, "mldoctor.linter"),
}


def installed(tool: str) -> bool:
    return importlib.util.find_spec(TOOLS[tool].module.partition(".")[0]) is not None


def versions() -> dict[str, str]:
    return {tool: importlib.metadata.version(tool) for tool in TOOLS if tool != "covlab.watch" and installed(tool)}


def not_run() -> dict[str, str]:
    """Return why a tool has no results."""
    return NOT_RUN | {tool: "not installed" for tool in TOOLS if not installed(tool)}


def asked(tool: str, script: Path) -> tuple[int, int]:
    """Fork a child that runs a script under a tool, as tools leave hooks behind. Return its number and its pipe."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        silence = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(silence, number)
        signal.alarm(LIMIT)
        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        try:
            found = sorted(set(TOOLS[tool].says(script)))
        except Exception as error:  # noqa: BLE001 - the results count the loops on which a tool fails
            found = [Message(f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:120])]
        with open(writes, "w") as pipe:
            json.dump(found, pipe)
        os._exit(0)
    os.close(writes)
    return child, reads


def answered(child: int, reads: int) -> list[Message]:
    with open(reads) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return [Message(*one) for one in json.loads(told)] if told else [Message("failed: the process ended")]


# ---------------------------------------------------------------- which loops there are, and what is right of each


class Loop(NamedTuple):
    """A row of tests/loops/table.tsv; tests/test_watch_loops.py says what its columns are."""

    file: str
    tier: str
    verdict: str
    code: str
    line: str
    words: str

    @property
    def script(self) -> Path:
        return LOOPS / f"{self.file}.py"

    @property
    def bug(self) -> bool:
        """Whether there is something to find: for a reader, even if no step shows it."""
        reported = self.group == "public reports" and not self.file.endswith("_healthy")
        return self.verdict != "quiet" or self.file.endswith("_faulty") or reported

    @property
    def corrected(self) -> str:
        """The name of the loop without the bug, if there is one."""
        return f"{self.file.removesuffix('faulty')}healthy" if self.file.endswith("_faulty") else ""

    @property
    def group(self) -> str:
        """What the loop stands for, by the first line of its file and the first part of its name."""
        if self.script.read_text().startswith("# source: "):
            return "public reports"
        kinds = {"real": "real repositories", "lib": "libraries", "framework": "libraries", "textbook": "textbook bugs"}
        alone = self.verdict == "quiet" and not self.file.endswith(("_faulty", "_healthy"))
        return kinds.get(self.file.partition("_")[0]) or ("correct idioms" if alone else "our own loops")

    def named_by(self, message: Message) -> bool:
        """Return whether a message of covlab.watch has the verdict, the code, the line and the words that are right."""
        code, _, verdict = message.name.partition(" ")
        return (
            verdict == self.verdict
            and (self.code == "-" or code in self.code.split("|"))
            and (self.line == "-" or any(part in message.line for part in self.line.split("|")))
            and (self.words == "-" or re.search(self.words, message.text, re.IGNORECASE) is not None)
        )


def table() -> dict[str, Loop]:
    with (LOOPS / "table.tsv").open(newline="") as file:
        return {row["file"]: Loop(**row) for row in csv.DictReader(file, delimiter="\t")}


def judged(loop: Loop, says: dict[str, list[Message]], corrected: dict[str, list[Message]]) -> dict[str, Any]:
    """Return what the tools say of a loop, and what counts of it because the corrected loop does not get it."""
    known = {tool: {one.name for one in messages} for tool, messages in corrected.items()}
    new = {
        tool: list(dict.fromkeys(one.name for one in messages if one.counts and one.name not in known.get(tool, ())))
        for tool, messages in says.items()
    }
    return {
        "loop": loop.file.removeprefix("textbook_").removesuffix("_faulty"),
        "file": loop.file,
        "group": loop.group,
        "bug": loop.bug,
        "expected": f"{loop.code} {loop.verdict}" if loop.verdict not in ("quiet", "none") else None,
        "named": any(map(loop.named_by, says["covlab.watch"])) if loop.bug else None,
        "says": {tool: list(dict.fromkeys(one.name for one in messages)) for tool, messages in says.items()},
        "new": new,
    }


def loops() -> list[dict]:
    tools = list(filter(installed, TOOLS))
    for module in ("torch._dynamo", "rich.console", *(TOOLS[tool].module for tool in tools)):
        importlib.import_module(module)  # else every child does
    gc.freeze()  # else every child collects and copies what all of them share
    fast = {name: loop for name, loop in table().items() if loop.tier == "fast"}
    says: dict[str, dict[str, list[Message]]] = {}
    for name, loop in fast.items():
        children = {tool: asked(tool, loop.script) for tool in tools}  # at the same time: nothing is timed here
        says[name] = {tool: answered(*child) for tool, child in children.items()}
        print(f"{name:60} {sum(map(len, says[name].values())):3} messages of {len(tools)} tools", flush=True)
    return [judged(loop, says[name], says.get(loop.corrected, {})) for name, loop in fast.items()]


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
            results.setdefault("measured", {})[name] = {"torch": torch.__version__, "invariants": len(TITLES)}
    if options.only in (None, "loops"):
        results |= {"versions": versions(), "not_run": not_run()}
    results |= {
        "command": "covlab bench watch",
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
