"""Train a pretrained network of the package again, score it, and write its checkpoint.

    covlab bench checkpoints student            # train with the recipe below, then score and write
    covlab bench checkpoints student --run DIR  # score and write the finished run of that recipe in the folder DIR

The checkpoint goes to covlab/training/checkpoints/. Training uses one thread. Seconds are processor time, which hardly
depends on other work on the machine.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch

from covlab.metrics import by_snr
from covlab.networks.unrolled import UnrolledNet
from covlab.scenes.scenario import PRESETS, preset
from covlab.training.checkpoint import load_parameters, read_checkpoint
from covlab.training.pretrained import CHECKPOINTS, scored_scenes

RECIPES = {
    "student": "--windows 4500 --epoch 750 --micro-batch 64",
    "near_field": "--windows 4000 --epoch 500 --micro-batch 32",
    "full": "--windows 5000 --epoch 1000 --micro-batch 32",
}
COMMON = "--network unrolled --accumulation 1 --nmse-only --weight lam_cov_pred=0.3 --weight lam_K=0.05 --seed 0"


def command(name: str) -> str:
    return f"covlab train --preset {name} {RECIPES[name]} {COMMON}"


def train(name: str, folder: Path) -> None:
    arguments = [sys.executable, "-m", *command(name).split(), "--folder", str(folder)]
    subprocess.run(arguments, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / "seconds").write_text(f"{used.ru_utime + used.ru_stime:.0f}\n")


@torch.no_grad()
def write(name: str, folder: Path) -> None:
    state, network = read_checkpoint(folder / "best.pt"), UnrolledNet(preset(name))
    load_parameters(network, folder / "best.pt")
    batch, network = scored_scenes(name), network.eval()
    pieces = [batch[start : start + 128] for start in range(0, len(batch), 128)]
    scores = torch.cat([network(piece.y, piece.H, piece.codes, piece.snr_db).nmse(piece) for piece in pieces])
    card = {
        "command": command(name),
        "seconds": float((folder / "seconds").read_text()),
        "scores": scores,
        "versions": {
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }
    torch.save(
        {"model": state["model"], "faults": state["faults"], "config": state["config"], "card": card},
        CHECKPOINTS / f"{name}.pt",
    )
    error = scores.std() / len(scores) ** 0.5
    print(
        f"{name}: NMSE {scores.mean():.4f} ± {error:.4f}, median {scores.median():.4f}, {card['seconds']:.0f} s of "
        "processor time"
    )
    for row in by_snr(batch, scores):
        print(
            f"  SNR {row['low_db']:3.0f} to {row['high_db']:2.0f} dB  mean {row['mean']:.4f}, median "
            f"{row['median']:.4f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--run", type=Path, help="folder of a finished run [default: train a new one]")
    options = parser.parse_args()
    run = options.run or Path("runs") / f"checkpoint-{options.preset}"
    if options.run is None:
        train(options.preset, run)
    write(options.preset, run)
