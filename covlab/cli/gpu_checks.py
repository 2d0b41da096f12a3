"""What was never run on CUDA, each as a check that takes seconds: `covlab env --gpu`. docs/gpu.md lists them."""

import copy
import math
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from covlab.course.exercises import exercises_of
from covlab.course.exercises.judging import correct_results, draw_cases
from covlab.estimators import ladder, sample_covariance
from covlab.faults import FAULTS, inject
from covlab.metrics import bures_wasserstein, subspace_overlap
from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch
from covlab.scenes.channel import site_channel
from covlab.scenes.consistency import channel_residual, whitened_power
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import Loss, LossWeights
from covlab.training.operations import Operations, host_may_not_wait
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.run_config import NETWORKS
from covlab.training.trainer import Trainer, gradients
from covlab.watch import watch

STUDENT = preset("student")


class Differs(Exception):
    """The device does not do what the CPU does. The message names what, and by how much."""


@dataclass(frozen=True)
class GpuCheck:
    """What a line of docs/gpu.md says, and a function that raises if it does not hold on a device."""

    what: str
    run: Callable[[str], None]


CHECKS: list[GpuCheck] = []


def holds(what: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    """Register the decorated function as the check of ``what``."""

    def register(run: Callable[[str], None]) -> Callable[[str], None]:
        CHECKS.append(GpuCheck(what, run))
        return run

    return register


def reason_for_failure(check: GpuCheck, device: str) -> str:
    """Run ``check`` on ``device`` without TF32. Return the first line of what it raised, or "" if it holds."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        check.run(device)
        if device != "cpu":
            torch.cuda.synchronize(device)  # an error of a kernel appears only here
    except Exception as error:  # noqa: BLE001 - whatever a device raises is what the user asked for
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    return ""


def require(law: bool, otherwise: str) -> None:
    if not law:
        raise Differs(otherwise)


def require_close(what: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    got, expected = got.detach().cpu(), expected.detach().cpu()
    error = ((got - expected).norm() / expected.norm().clamp(min=1e-30)).item()
    require(error <= tolerance, f"{what} differs by {error:.1e} of its size, more than {tolerance:.0e}")


# ---------------------------------------------------------------- scenes, networks, loss, estimators


@holds("The simulator draws scenes that fit the equations of its model, and the same seed draws the same scenes.")
def _scenes(device: str) -> None:
    for name in ("student", "full"):
        simulator = Simulator(preset(name), device)
        batch, again = (simulator.draw(64, scene_generator(0, "check", device=device)) for _ in range(2))
        require(torch.equal(batch.y, again.y), f"{name}: two draws with one seed differ")
        G = site_channel(simulator.scenario).to(batch.H.device, torch.complex64)
        residual, power = channel_residual(batch.H, batch.codes, G), whitened_power(batch, G)
        require(residual < 1e-5, f"{name}: H differs from G c by {residual:.1e} of its size")
        require(abs(power - 1) < 0.1, f"{name}: the whitened power is {power:.3f} instead of 1")


@holds("Each network gives the estimate and the gradient that it gives on a CPU.")
def _networks(device: str) -> None:
    scenes = _student_scenes()
    for name, kind in NETWORKS.items():
        torch.manual_seed(0)
        model = kind(STUDENT)
        moved = copy.deepcopy(model).to(device)
        here, there = (_estimate_and_gradient(each, scenes.to(on)) for each, on in ((model, "cpu"), (moved, device)))
        require_close(f"{name}: the estimate", there[0], here[0], 1e-3)
        require_close(f"{name}: the gradient", there[1], here[1], 1e-2)


def _estimate_and_gradient(model: nn.Module, scenes: Batch) -> tuple[Tensor, Tensor]:
    estimate = model(scenes.y, scenes.H, scenes.codes, scenes.snr_db)
    estimate.nmse(scenes).mean().backward()
    return estimate.covariance(), torch.cat([each.flatten() for each in gradients(list(model.parameters()))])


@holds("Each term of the loss is that of a CPU, and its gradient is finite.")
def _loss(device: str) -> None:
    weights = LossWeights.only(**dict.fromkeys(LossWeights.names(), 0.1))
    terms = []
    for on in ("cpu", device):
        torch.manual_seed(0)
        model, scenes = BackProjectionNet(STUDENT).to(on), _student_scenes().to(on)
        losses = Loss(STUDENT, weights, on)(model(scenes.y, scenes.H, scenes.codes, scenes.snr_db), scenes)
        losses.total.mean().backward()
        finite = all(bool(each.isfinite().all()) for each in gradients(list(model.parameters())))
        require(finite, "the gradient is not finite")
        terms.append(losses.terms)
    for name, term in terms[0].items():
        require_close(f"the term {name}", terms[1][name], term, 1e-3)


@holds("Each classical estimator has the error that it has on a CPU.")
def _estimators(device: str) -> None:
    scenes, G = _student_scenes()[:6], site_channel(STUDENT).to(torch.complex64)
    for name, estimator in ladder(STUDENT).items():
        here = estimator(scenes, G).nmse(scenes)
        there = estimator(scenes.to(device), G.to(device)).nmse(scenes.to(device))
        # An iteration may end elsewhere in a scene or two, where rounding decides.
        median = (there.cpu() - here).abs().median().item()
        require(median < 1e-3, f"{name}: the median scene's NMSE differs by {median:.1e}")


@holds("The metrics are those of a CPU.")
def _metrics(device: str) -> None:
    scenes = _student_scenes()
    one, other = scenes.covariance(), sample_covariance(scenes, site_channel(STUDENT).to(torch.complex64)).covariance()
    for name, metric in (
        ("the Bures-Wasserstein distance", lambda on: bures_wasserstein(one.to(on), other.to(on))),
        ("the subspace overlap", lambda on: subspace_overlap(other.to(on), scenes.to(on))),
    ):
        require_close(name, metric(device), metric("cpu"), 1e-3)


def _student_scenes() -> Batch:
    return Simulator(STUDENT).draw(32, scene_generator(0, "check"))


# ---------------------------------------------------------------- the trainer


def _trainer(device: str, folder: Path | None = None, **recipe: Any) -> Trainer:
    simulator = Simulator(STUDENT, device)
    torch.manual_seed(0)
    model = BackProjectionNet(STUDENT, beams=32, width=32, rank=4).to(device)
    source = FreshScenes(simulator, 16, 8, seed=0)
    settings = Recipe(**({"windows": 6, "warmup": 0, "ema_decay": 0.5} | recipe))
    return Trainer(model, source, source.held_out(2), settings, folder=folder, progress=Silent())


@holds("A window's accumulated gradient is that of all its scenes at once.")
def _accumulation(device: str) -> None:
    scenes = Simulator(STUDENT).draw(100, scene_generator(0, "check")).to(device)
    parts = []
    for sizes in ([100], [40, 40, 20]):
        run = _trainer(device)
        run.accumulate([scenes[part] for part in torch.arange(100, device=device).split(sizes)])
        parts.append(torch.cat([each.flatten() for each in gradients(run.parameters)]))
    require_close("the gradient of three micro-batches", parts[1], parts[0], 1e-4)


@holds("A step runs if and only if its gradient is finite: fp32, fp16 and bf16, fused and unfused.")
def _gate(device: str) -> None:
    for precision in ("fp32", "fp16", "bf16"):
        for fused in (True, False):
            run, name = _trainer(device, precision=precision, fused=fused), f"{precision}, fused={fused}"
            windows, honest = list(run.draw_windows(0)), run.backward
            before, scale = run.vector, run.scaler.get_scale()

            def overflow(loss: Tensor, run: Trainer = run, honest: Callable[[Tensor], None] = honest) -> None:
                honest(loss)
                gradients(run.parameters)[3][0] = torch.inf

            run.backward = overflow  # type: ignore[method-assign]  # of this run alone
            run.train_window(windows[0])
            require(torch.equal(run.vector, before), f"{name}: a step with a gradient of inf moved the parameters")
            if precision == "fp16":
                require(run.scaler.get_scale() == scale / 2, f"{name}: an overflow did not halve the loss scale")
            run.backward = honest  # type: ignore[method-assign]
            run.train_window(windows[1])
            rows = run.ledger.flush()
            require([row["ran"] for row in rows] == [0, 1], f"{name}: the ledger says {[row['ran'] for row in rows]}")
            require(not torch.equal(run.vector, before), f"{name}: a step with a finite gradient moved nothing")
            require(bool(run.vector.isfinite().all()), f"{name}: the parameters are not finite")


@holds("Clipping and the ledger see the gradient without the loss scale.")
def _clipping(device: str) -> None:
    norms = []
    for precision in ("fp32", "fp16"):
        run = _trainer(device, precision=precision, clip=0.01, windows=1).fit()
        require(
            math.isclose(run.ledger.rows[0]["gradient_norm_clipped"], 0.01, rel_tol=1e-3), f"{precision}: not clipped"
        )
        norms.append(run.ledger.rows[0]["gradient_norm"])
    require(math.isclose(*norms, rel_tol=0.05), f"the norm is {norms[0]:.4g} in fp32 and {norms[1]:.4g} in fp16")


@holds("In fp16 and bf16 the network computes in half precision, and the loss in single precision.")
def _precision(device: str) -> None:
    scenes, totals = _student_scenes().to(device), {}
    for precision in ("fp32", "fp16", "bf16"):
        run = _trainer(device, precision=precision)
        losses = run.losses(scenes)
        dtypes = {term.dtype for term in losses.terms.values()}
        require(dtypes == {torch.float32}, f"{precision}: the loss is in {', '.join(map(str, dtypes))}")
        totals[precision] = losses.total
    for precision in ("fp16", "bf16"):
        require(not torch.equal(totals[precision], totals["fp32"]), f"{precision}: the network rounds nothing")
        require_close(f"{precision}: the loss", totals[precision], totals["fp32"], 0.05)


@holds("The host does not wait for the GPU within a window, fp32 and fp16.")
def _waits(device: str) -> None:
    for precision in ("fp32", "fp16"):
        run = _trainer(device, precision=precision)
        windows = list(run.draw_windows(0))
        run.train_window(windows[0])
        with Operations() as operations, host_may_not_wait(device):
            run.train_window(windows[1])
        require(operations.waits == 0, f"{precision}: {operations.waits} operations make the host wait")


@holds("A run that is stopped and resumed ends where an uninterrupted run ends.")
def _resume(device: str) -> None:
    straight = _trainer(device, precision="fp16").fit()
    with tempfile.TemporaryDirectory() as folder:
        begun = _trainer(device, Path(folder) / "run", precision="fp16")
        windows = begun.windows()
        for _ in range(2):
            next(windows)
        windows.close()
        begun.save()
        resumed = _trainer(device, Path(folder) / "run", precision="fp16").resume().fit()
    require_close("the resumed run's parameters", resumed.vector, straight.vector, 1e-3)


@holds("Training on a few fixed scenes learns them, fp32, fp16 and bf16.")
def _learns(device: str) -> None:
    scenes = Simulator(STUDENT).draw(64, scene_generator(0, "check")).to(device)
    for precision in ("fp32", "fp16", "bf16"):
        torch.manual_seed(0)
        model = BackProjectionNet(STUDENT, beams=32, width=64, rank=4).to(device)
        recipe = Recipe(windows=40, precision=precision, learning_rate=3e-3, accumulation=2)
        run = Trainer(
            model, FixedScenes(scenes, 16, 0), scenes, recipe, LossWeights.only(lam_cov=1.0), progress=Silent()
        )
        before, after = run.evaluate().mean().item(), run.fit().history[-1]["validation"]
        require(after < 0.5 * before, f"{precision}: the NMSE went from {before:.3f} to {after:.3f} only")


@holds("Each fault can be switched on, and its run trains a window.")
def _faults(device: str) -> None:
    for name, fault in FAULTS.items():
        recipe = {key: value for key, value in fault.setting.items() if key in Recipe.__dataclass_fields__}
        with inject(name):
            run = _trainer(device, **recipe)
        run.train_window(next(run.draw_windows(0)))


# ---------------------------------------------------------------- lessons and the watch


@holds("The solutions of lesson 04 are correct on the GPU.")
def _lesson_04(device: str) -> None:
    for id, exercise in exercises_of("04").items():
        cases = draw_cases(exercise)
        moved = [tuple(each.to(device) if isinstance(each, Tensor) else each for each in case) for case in cases]
        for there, here in zip(correct_results(exercise, moved), correct_results(exercise, cases), strict=True):
            error = exercise.compare(there, here)
            require(error <= exercise.tolerance, f"{id} differs by {error:.1e} of its size")


@holds("The watch finds a missing division and a clip before the unscaling, and nothing in the correct loop, in fp16.")
def _watch(device: str) -> None:
    for divide, unscale_first, expected in ((True, True, None), (False, True, "W01"), (True, False, "W06")):
        with watch() as w:
            _half_precision_loop(device, divide, unscale_first)
        worst = {finding.code for finding in w.report().findings if finding.verdict == "fault"}
        require(worst == ({expected} if expected else set()), f"the watch reports {worst or 'nothing'}, not {expected}")


def _half_precision_loop(device: str, divide: bool, unscale_first: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    for number in range(40):
        x, y = torch.randn(6, 8, device=device), torch.randint(4, (6,), device=device)
        with torch.autocast(device, torch.float16):
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss / 2 if divide else loss).backward()
        if number % 2 == 0:
            continue
        if unscale_first:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not unscale_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@holds("The watch reads nothing while a CUDA graph is captured, and the loop's parameters stay the same.")
def _captured(device: str) -> None:
    if device == "cpu":
        return
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(8, 4).to(device)
        x = torch.randn(6, 8, device=device)
        with watch() if watched else nullcontext():
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            graphed: Any = torch.cuda.make_graphed_callables(model, (x,))
            for _ in range(4):
                graphed(x).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        ends.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
    require_close("the watched run's parameters", ends[1], ends[0], 1e-6)
