"""Score classical estimators and the trained network on the same unseen scenes: error by SNR and K, and time per scene.

    covlab bench estimators --preset full [--scenes 1024] [--only "grid ML" --only genie] [--positions]

It uses one thread. Times are processor time, in pieces of 32 scenes; work that is done once per scenario does not
count. Intervals are 95 % bootstrap intervals over the scenes. The excess of an estimator is its NMSE minus the
network's on the same scenes, if the network is measured in the same run. G is calibrated from the contract tensors of
16 other scenes. Results go to benchmarks/results/estimators_<preset>.json; --only replaces the named rows of that file
and keeps the others. --positions instead compares root mean square position errors of one source, at azimuth 20°,
elevation 10° and 1 m, with the Cramér-Rao bound.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor

from covlab.estimators import ladder
from covlab.estimators.bound import position_bound
from covlab.estimators.calibration import calibrate
from covlab.estimators.classical import sample_covariance
from covlab.estimators.greedy import GreedyLikelihood
from covlab.estimators.grid import RefinedGridLikelihood
from covlab.estimators.spectra import locate, music
from covlab.metrics import SNR_BINS_DB, position_errors, snr_bins
from covlab.networks.model import Estimate
from covlab.networks.source_grid import DictionaryEstimate, default_grid
from covlab.scenes.batch import Batch
from covlab.scenes.channel import site_channel
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.checkpoint import CheckpointError
from covlab.training.pretrained import pretrained

Contender = Callable[[Batch], Estimate | DictionaryEstimate]

SEED, PIECE, RESAMPLES = 0, 32, 2000
POSITION = (math.radians(20), math.radians(10), 1.0)
"""Position (φ, θ, r) in radians and meters of the single source of --positions."""
NETWORK = "unrolled network"
SHARE = {"covariance fit, grid": 0.25, "grid ML, half the step": 0.25}
"""Share of the scenes for slow estimators; every row records how many scenes it used."""
RESULTS = Path(__file__).parent / "results"


def interval(scores: Tensor) -> dict[str, Any]:
    """Return the number of scenes, and mean and median of ``scores`` [B] with 95 % bootstrap intervals."""
    picks = torch.randint(len(scores), (RESAMPLES, len(scores)), generator=torch.Generator().manual_seed(0))
    drawn = scores.double()[picks]
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    mean, median = (
        drawn.mean(dim=1).quantile(quantiles).tolist(),
        drawn.median(dim=1).values.quantile(quantiles).tolist(),
    )
    return {
        "scenes": len(scores),
        "mean": scores.mean().item(),
        "mean_95": mean,
        "median": scores.median().item(),
        "median_95": median,
    }


def measure(name: str, estimate: Contender, batch: Batch, parameters: int | None) -> tuple[dict[str, Any], Tensor]:
    """Return the row of one estimator, with its time per scene, and its errors on the batch [B]."""
    estimate(batch[:1])  # so that work which is done only once does not count
    pieces, seconds = [], 0.0
    for start in range(0, len(batch), PIECE):
        piece = batch[start : start + PIECE]
        began = time.process_time()
        found = estimate(piece)
        seconds += time.process_time() - began
        pieces.append(found.nmse(piece))
    scores = torch.cat(pieces)
    by_snr = [{"low_db": low, "high_db": high, **interval(scores[inside])} for low, high, inside in snr_bins(batch)]
    by_sources = [
        {"sources": K, **interval(scores[batch.source_count == K])} for K in batch.source_count.unique().tolist()
    ]
    row = {
        "name": name,
        "milliseconds": 1e3 * seconds / len(batch),
        "parameters": parameters,
        **interval(scores),
        "by_snr": by_snr,
        "by_sources": by_sources,
    }
    return row, scores


def calibration(scenario: Scenario) -> list[dict]:
    """Return a row per number of scenes, from the fewest that determine G: the relative error of the estimated G."""
    simulator, truth = Simulator(scenario), site_channel(scenario).to(torch.complex64)
    fewest = -(-scenario.ris_elements // scenario.snapshots)
    rows = []
    for scenes in sorted({fewest, fewest + 1, 2 * fewest, 64}):
        found = calibrate(simulator.draw(scenes, scene_generator(SEED, "calibration")))
        rows.append({"scenes": scenes, "error": (torch.linalg.norm(found - truth) / torch.linalg.norm(truth)).item()})
    return rows


def network(scenario: Scenario) -> dict[str, tuple[Contender, int | None]]:
    """Return {name: (estimate, number of parameters)} of the preset's pretrained network; {} if there is none."""
    try:
        trained = pretrained(scenario.name)
    except CheckpointError as error:
        print(f"no network: {error}")
        return {}

    def estimate(piece: Batch) -> Estimate:
        return trained(piece.y, piece.H, piece.codes, piece.snr_db)

    return {NETWORK: (estimate, sum(parameter.numel() for parameter in trained.parameters()))}


def positions(scenario: Scenario, G: Tensor, scenes: int) -> list[dict]:
    """Return a row per SNR: root mean square errors and bound, in meters, for the position of a source at ``POSITION``.

    The estimators know K = 1 and the ranges of the preset's positions. Symbols, codes and noise differ by scene.
    """
    one, rows = replace(scenario, max_sources=1), []
    greedy, refined, grid, trained = (
        GreedyLikelihood(one),
        RefinedGridLikelihood(one),
        default_grid(one),
        pretrained(scenario.name),
    )
    for snr_db in (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0):
        azimuth, elevation, range_m = ((value, value) for value in POSITION)
        there = replace(one, azimuth=azimuth, elevation=elevation, range_m=range_m, snr_db=(snr_db, snr_db))
        batch = Simulator(there).draw(scenes, scene_generator(SEED, "positions"))
        found_positions = {}
        for name, found in (
            ("greedy ML, off grid", greedy(batch, G)),
            (NETWORK, trained(batch.y, batch.H, batch.codes, batch.snr_db)),
        ):
            assert found.positions is not None  # both estimate the sources' positions
            strongest = found.positions[:, :1]
            found_positions[name] = torch.cat([strongest[..., :2], strongest[..., 2:].exp()], dim=2)
        for name, estimate in (
            ("MUSIC on grid ML, refined", refined),
            ("MUSIC on the sample covariance", sample_covariance),
        ):
            R = estimate(batch, G).covariance()
            found_positions[name] = locate(music(R, batch.source_count, grid.steering), grid, 1)
        errors = {name: position_errors(found, batch) for name, found in found_positions.items()} | {
            "bound": position_bound(batch, G, one)
        }
        rows.append({"snr_db": snr_db} | {name: error.square().mean().sqrt().item() for name, error in errors.items()})
        print("  ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="student")
    parser.add_argument("--scenes", type=int, default=1024)
    parser.add_argument(
        "--only", action="append", metavar="ROW", help="measure only this row (you may give it several times)"
    )
    parser.add_argument(
        "--positions",
        action="store_true",
        help="compare position errors of one source with the Cramér-Rao bound, and nothing else",
    )
    parser.add_argument("--json", type=Path, help="write the results to this file instead")
    options = parser.parse_args()
    torch.set_num_threads(1)

    scenario = preset(options.preset)
    simulator = Simulator(scenario)
    G = calibrate(simulator.draw(16, scene_generator(SEED, "calibration")))
    batch = simulator.draw(options.scenes, scene_generator(SEED, "estimators"))
    contenders = {
        name: (lambda piece, run=run: run(piece, G), None) for name, run in ladder(scenario).items()
    } | network(scenario)
    names = options.only or list(contenders)
    if unknown := set(names) - set(contenders):
        parser.error(f"--only must be one of {', '.join(contenders)}, got {', '.join(sorted(unknown))}")

    target = options.json or RESULTS / f"estimators_{scenario.name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(target.read_text()) if target.exists() else {}
    results |= {
        "preset": scenario.name,
        "seed": SEED,
        "versions": {package: importlib.metadata.version(package) for package in ("covlab", "torch")},
        "machine": (
            f"{platform.machine()}, {os.cpu_count()} cores shared with other work, one thread used; "
            "milliseconds are of processor time"
        ),
        "calibration": calibration(scenario),
    }
    command = f"covlab bench estimators --preset {scenario.name} --scenes {options.scenes}"
    print(f"{scenario.name}, {options.scenes} scenes, torch {torch.__version__}, one thread")
    if options.positions:
        with torch.no_grad():
            rows = positions(scenario, G, options.scenes)
        results["positions"] = {"command": f"{command} --positions", "scenes": options.scenes, "rows": rows}
        target.write_text(json.dumps(results, indent=1) + "\n")
        return
    kept = {row["name"]: row for row in results.get("rows", []) if options.only}
    names.sort(key=lambda name: name != NETWORK)
    if NETWORK in names:
        for row in kept.values():
            row.pop("excess", None)  # over the network that is measured again
    network_scores: Tensor | None = None
    bins = "".join(f"{f'{low:g} dB':>8}" for low in SNR_BINS_DB[:-1])
    print(f"{'':26}{'mean NMSE':>10}{'(95 %)':>16}{'median':>9}{bins}{'ms/scene':>10}{'parameters':>12}")
    for name in names:
        estimate, parameters = contenders[name]
        scenes = batch[: max(1, int(SHARE.get(name, 1.0) * len(batch)))]
        with torch.no_grad():
            row, scores = measure(name, estimate, scenes, parameters)
        kept[name] = row
        row["command"] = command
        if name == NETWORK:
            network_scores = scores
        elif network_scores is not None:
            paired = interval(scores - network_scores[: len(scores)])
            row["excess"] = {"mean": paired["mean"], "mean_95": paired["mean_95"]}
        spread = f"({row['mean_95'][0]:.3f}-{row['mean_95'][1]:.3f})"
        means = {part["low_db"]: f"{part['mean']:.3f}" for part in row["by_snr"]}
        print(
            f"{name:26}{row['mean']:10.4f}{spread:>16}{row['median']:9.4f}"
            + "".join(f"{means.get(low, ''):>8}" for low in SNR_BINS_DB[:-1])
            + f"{row['milliseconds']:10.2f}{row['parameters'] or '':>12}",
            flush=True,
        )
        results["rows"] = [kept[known] for known in contenders if known in kept]
        target.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
