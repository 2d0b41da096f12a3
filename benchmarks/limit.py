"""Estimate the least mean NMSE that any estimator can have, and how far the trained network is from it.

    covlab bench limit --preset student [--scenes 256] [--draws 128] [--sweeps 6] [--seed 0]

The Bayes estimate (covlab/estimators/posterior.py) knows everything about how scenes are drawn. Two independent runs of
its sampler give two numbers. "limit" is the mean NMSE that the posterior expects of the estimate. "reached" is the
mean NMSE of the estimate, averaged over both runs, against the true R. They agree if the sampler is correct, up to the
chance of the scenes. Errors after ± are standard errors over the scenes; the gap is network − reached, scene by scene.
Finished pieces of 16 scenes are kept in runs/limit until the end, so a command that was stopped goes on where it was.
Results go to benchmarks/results/limit.json, which keeps those of the other presets.
"""

import argparse
import hashlib
import importlib.metadata
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor

from covlab.estimators import likelihood, posterior
from covlab.estimators.posterior import SCENES_AT_ONCE, Population, Posterior, expected_nmse, sample_posterior
from covlab.metrics import snr_bins
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import nmse
from covlab.training.pretrained import pretrained

RESULTS = Path(__file__).parent / "results" / "limit.json"
KEPT = Path("runs") / "limit"


def sample(scenario: Scenario, batch: Batch, options: argparse.Namespace, run: int) -> tuple[Posterior, float]:
    """Return run ``run`` of the sampler, piece by piece, and its seconds of processor time."""
    pieces, seconds = [], 0.0
    KEPT.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(batch), SCENES_AT_ONCE):
        piece = batch[start : start + SCENES_AT_ONCE]
        path = KEPT / f"{settings(options)} --run {run} --start {start} {fingerprint(scenario, piece)}.pt"
        if not path.exists():
            began = time.process_time()
            generator = scene_generator(options.seed, "posterior", run, start)
            populations = sample_posterior(scenario, piece, generator, options.draws, options.sweeps).populations
            fields = [tuple(vars(population).values()) for population in populations]
            torch.save((fields, time.process_time() - began), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        fields, spent = torch.load(path)
        pieces.append(fields)
        seconds += spent
    whole = (
        Population(*map(torch.cat, zip(*(piece[K] for piece in pieces), strict=True))) for K in range(len(pieces[0]))
    )
    return Posterior(tuple(whole)), seconds


def fingerprint(scenario: Scenario, piece: Batch) -> str:
    """Return a name for what a piece depends on besides the settings: its scenes, and the code that samples them."""
    code = (inspect.getsource(module) for module in (posterior, likelihood))
    told = "".join([repr(scenario), str(torch.__version__), *code])
    return hashlib.sha256(told.encode() + piece.y.numpy().tobytes()).hexdigest()[:16]


def settings(options: argparse.Namespace) -> str:
    return (
        f"--preset {options.preset} --scenes {options.scenes} --draws {options.draws} --sweeps {options.sweeps} "
        f"--seed {options.seed}"
    )


def mean_and_error(scores: Tensor) -> dict[str, float]:
    """Return the mean of ``scores`` [B], and its standard error."""
    scores = scores.double()
    return {"mean": scores.mean().item(), "error": (scores.std(correction=0) / max(1, len(scores) - 1) ** 0.5).item()}


def measure(scenario: Scenario, batch: Batch, runs: tuple[Posterior, Posterior]) -> dict[str, Any]:
    """Return the limit, what the Bayes estimate and the network reach, and their gap: overall and by SNR."""
    truth = batch.covariance()
    one, other = (run.covariance() for run in runs)
    reached = nmse((one + other) / 2, truth)
    network = pretrained(scenario.name)(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch)
    limit = expected_nmse(*runs)
    scores = {
        "limit": limit,
        "reached": reached,
        "network": network,
        "gap": network - reached,
        "reached_less_limit": reached - limit,
        "between_runs": nmse(one, other),
    }

    def row(inside: Tensor) -> dict[str, Any]:
        return {"scenes": int(inside.sum())} | {name: mean_and_error(score[inside]) for name, score in scores.items()}

    everything = torch.ones(len(batch), dtype=torch.bool)
    by_snr = [{"low_db": low, "high_db": high, **row(inside)} for low, high, inside in snr_bins(batch)]
    return {**row(everything), "by_snr": by_snr}


def show(name: str, row: dict[str, Any]) -> None:
    numbers = "".join(
        f"{row[score]['mean']:10.4f} ± {row[score]['error']:.4f}" for score in ("limit", "reached", "network", "gap")
    )
    print(f"{name:14}{row['scenes']:7}{numbers}", flush=True)


def at_least(least: int) -> Callable[[str], int]:
    """Return the reader of an argument that is a whole number from ``least`` to 2^31."""

    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= 2**31:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {2**31}, got {text!r}")
        return int(text)

    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="student")
    parser.add_argument("--scenes", type=at_least(2), default=256)
    parser.add_argument(
        "--draws", type=at_least(2), default=128, help="draws of the posterior for each number of sources"
    )
    parser.add_argument("--sweeps", type=at_least(1), default=6, help="proposals for every source at each temperature")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--json", type=Path, default=RESULTS, help="write the results to this file instead")
    options = parser.parse_args()
    torch.set_num_threads(1)

    scenario = preset(options.preset)
    batch = Simulator(scenario).draw(options.scenes, scene_generator(options.seed, "limit"))
    with torch.no_grad():
        (one, seconds), (other, more) = (sample(scenario, batch, options, run) for run in (0, 1))
        found = measure(scenario, batch, (one, other))
    seconds += more
    print(f"{scenario.name}, {options.scenes} scenes, {options.draws} draws, {seconds:.0f} s of processor time")
    print(f"{'':14}{'scenes':>7}{'limit':>19}{'reached':>19}{'network':>19}{'gap':>19}")
    for part in found["by_snr"]:
        show(f"{part['low_db']:g} to {part['high_db']:g} dB", part)
    show("overall", found)
    apart = found["between_runs"]["mean"]
    print(f"NMSE between the two runs: {apart:.2g}")

    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    results[scenario.name] = {
        "command": f"covlab bench limit {settings(options)}",
        "versions": {package: importlib.metadata.version(package) for package in ("covlab", "torch")},
        "seconds": seconds,
        **found,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    for piece in KEPT.glob(f"{settings(options)} --run *.pt"):
        piece.unlink()


if __name__ == "__main__":
    main()
