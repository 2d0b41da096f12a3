"""`covlab train`: train a network from a shell. A run's folder holds its settings, so the run can be resumed."""

import json
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from covlab.arguments import whole_number
from covlab.cli.options import device_option, refusals, seed_option
from covlab.metrics import by_snr
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.checkpoint import CheckpointError
from covlab.training.loss import LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.ranks import RankLost, device_of_rank, joined
from covlab.training.recipe import OPTIMIZERS, PRECISIONS, Recipe
from covlab.training.run_config import NETWORKS, OVERFIT_SCENES, VALIDATION_SCENES, build, configure, windows_within
from covlab.training.trainer import Trainer

if TYPE_CHECKING:
    from covlab.training.study import Tuned


def _weights(context: click.Context, parameter: click.Parameter, settings: tuple[str, ...]) -> dict[str, float]:
    names = LossWeights().values()
    weights = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name not in names or not equals:
            raise click.BadParameter(f"expected NAME=VALUE with NAME one of {', '.join(names)}, got {setting!r}")
        try:
            weights[name] = float(value)
        except ValueError:
            raise click.BadParameter(f"{name} must be a number, got {value!r}") from None
    return weights


@click.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="student", help="What is simulated.")
@click.option(
    "--network", type=click.Choice(tuple(NETWORKS)), help="[default: back-projection at student size, else unrolled]"
)
@click.option("--windows", default=1500, help="Budget in windows (optimizer steps).")
@click.option("--minutes", type=float, help="Budget in minutes; covlab times a few windows and converts it to windows.")
@click.option("--overfit", is_flag=True, help=f"Train on the same {OVERFIT_SCENES} scenes instead of fresh ones.")
@seed_option
@click.option("--micro-batch", default=32, help="Scenes per micro-batch.")
@click.option("--accumulation", default=4, help="Micro-batches per window.")
@click.option("--epoch", "windows_per_epoch", default=100, help="With fresh scenes: windows between validations.")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adamw")
@click.option("--learning-rate", default=3e-3)
@click.option("--clip", default=1.0, help="Largest gradient norm; 0: never clip.")
@click.option("--precision", type=click.Choice(tuple(PRECISIONS)), default="fp32")
@click.option("--ema-decay", type=float, help="Decay of the parameters' average, which is validated and saved.")
@click.option("--patience", type=int, help="Stop after this many epochs without a better validation.")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    callback=_weights,
    metavar="NAME=VALUE",
    help="A loss weight, such as lam_gap=0; may be repeated.",
)
@click.option("--study", help="Take network, width, learning rate and weights from the best trial of this study.")
@click.option("--storage", help="URL of that study. [default: as in covlab tune]")
@click.option("--nmse-only", is_flag=True, help="Switch off all loss terms except the NMSE and those of --weight.")
@device_option
@click.option("--folder", type=click.Path(path_type=Path), help="Where the run's files go. [default: runs/PRESET-TIME]")
@click.option(
    "--resume", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Resume the run in this folder."
)
@click.option("--previous", is_flag=True, help="With --resume: start from the checkpoint before the last.")
@click.option("--debug", is_flag=True, help="Also log whether the first loss is finite, and gradient norms per epoch.")
@refusals(ValueError, FileExistsError, CheckpointError, NonFiniteLoss)
def train(
    preset_name: str,
    network: str | None,
    minutes: float | None,
    overfit: bool,
    seed: int,
    micro_batch: int,
    windows_per_epoch: int,
    weights: dict[str, Any],
    study: str | None,
    storage: str | None,
    nmse_only: bool,
    device: str,
    folder: Path | None,
    resume: Path | None,
    previous: bool,
    debug: bool,
    **recipe: Any,
) -> None:
    """Train a network; config, ledger, checkpoints and figures go to a folder."""
    if minutes is not None and _given("windows"):
        raise click.UsageError("give --windows or --minutes, not both")
    if minutes is not None and not minutes > 0:
        raise click.UsageError(f"--minutes must be above 0, got {minutes}")
    if previous and resume is None:
        raise click.UsageError("--previous goes with --resume FOLDER")
    if storage is not None and study is None:
        raise click.UsageError("--storage goes with --study NAME")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise click.UsageError(f"device must be one that torch can use here, got {device!r} ({reason})") from error
    try:
        device = device_of_rank(device)
        with joined(device) as ranks:
            say = click.echo if ranks.first else lambda line: None
            if resume is not None:
                names = sorted(click.get_current_context().params)
                allowed = ("resume", "previous", "device", "debug")
                if clash := [name for name in names if _given(name) and name not in allowed]:
                    raise click.UsageError(f"a resumed run keeps its own settings; leave out {', '.join(clash)}")
                folder = resume
                config = _stored_config(folder)
                if config["ranks"] != ranks.size:
                    raise ValueError(
                        f"the run in {folder} used {_processes(config['ranks'])}, and this command uses "
                        f"{_processes(ranks.size)}: {_command(folder, config['ranks'])}"
                    )
            else:
                whole_number(1).check("epoch", windows_per_epoch)
                width: int | None = None
                loss_weights = LossWeights.only(**({"lam_cov": 1.0} | weights)) if nmse_only else LossWeights(**weights)
                if study is not None:
                    if clash := [name for name in ("network", "learning_rate", "weights", "nmse_only") if _given(name)]:
                        raise click.UsageError(f"--study sets these itself; leave out {', '.join(clash)}")
                    found = ranks.once(lambda: _best(study, storage))
                    preset_name = preset_name if _given("preset_name") else found.settings.preset
                    network, width, loss_weights = found.settings.network, found.width, found.weights
                    recipe["learning_rate"] = found.learning_rate
                folder = folder or ranks.once(lambda: Path("runs") / f"{preset_name}-{datetime.now():%Y%m%d-%H%M%S}")
                network = network or ("back-projection" if preset_name == "student" else "unrolled")
                config = configure(
                    preset(preset_name),
                    NETWORKS[network].__name__,
                    overfit,
                    seed,
                    micro_batch,
                    windows_per_epoch,
                    Recipe(**recipe | {"clip": recipe["clip"] or None}),
                    loss_weights,
                    width,
                )
                if minutes is not None:
                    config["recipe"]["windows"] = windows_within(config, minutes, device, ranks)
                    say(f"{minutes:g} minutes: {config['recipe']['windows']} windows on this machine")
            edited = (LookupError, TypeError, AttributeError, ValueError) if resume is not None else ()
            with refusals(*edited, prefix=f"{folder / 'config.json'} was edited or damaged: "):
                trainer = build(config, device, folder=folder, debug=debug, ranks=ranks)
            say(f"folder {folder}")
            if resume is not None:
                trainer.resume(previous)
                say(f"resuming after window {trainer.window} of {trainer.recipe.windows}")
            try:
                trainer.fit()
                _summary(trainer, folder, say)
            except KeyboardInterrupt:  # the second one: the first ends the run in order
                say(f"to continue from the last checkpoint: {_command(folder, ranks.size)}")
                raise
            if trainer.window < trainer.recipe.windows and not trainer.out_of_patience():
                say(f"to continue: {_command(folder, ranks.size)}")
    except RankLost as error:
        again = "" if folder is None else f"; to resume the run: {_command(folder, ranks.size)}"
        raise click.ClickException(f"{error}{again}") from error
    except OSError as error:
        if error.errno is None:  # not of the system: the folder holds another run
            raise
        again = ""
        if folder is not None and (folder / "config.json").exists():
            again = f"; to resume from the last checkpoint: {_command(folder, ranks.size)}"
        raise click.ClickException(f"{error.strerror}: {error.filename or folder}{again}") from error


def _command(folder: Path, ranks: int) -> str:
    return (
        "covlab" if ranks == 1 else f"torchrun --nproc-per-node {ranks} -m covlab"
    ) + f" train --resume {shlex.quote(str(folder))}"


def _processes(ranks: int) -> str:
    return "one process" if ranks == 1 else f"{ranks} ranks"


def _best(study: str, storage: str | None) -> "Tuned":
    from covlab.training.study import STORAGE, StudyError, best

    with refusals(StudyError):
        found = best(storage or STORAGE, study)
    click.echo(
        f"study {study}, trial {found.trial}: NMSE {found.nmse:.4f}, learning rate {found.learning_rate:.3g}, width "
        f"{found.width or 'the default'}"
    )
    return found


def _given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _stored_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise click.ClickException(f"{folder} is not the folder of a run: it has no config.json") from None
    except ValueError as error:
        raise click.ClickException(f"{path} is damaged: {error}") from None
    if not isinstance(config, dict) or "ranks" not in config:
        raise click.ClickException(f"{path} was edited or damaged: it does not say how many ranks the run has")
    return config


def _summary(trainer: Trainer, folder: Path, say: Callable[[str], None]) -> None:
    """Print the scores by SNR and draw the pictures of the run."""
    from covlab.plots.training import learning_curves, window_columns

    scores = trainer.evaluate()
    what = "memorized scenes" if isinstance(trainer.scenes, FixedScenes) else "held-out scenes"
    say(f"NMSE on {len(scores)} {what}: mean {scores.mean():.4f}, median {scores.median():.4f}")
    for row in by_snr(trainer.validation, scores):
        say(f"  SNR {row['low_db']:3.0f} to {row['high_db']:2.0f} dB  {row['mean']:.4f}  ({row['scenes']} scenes)")
    if isinstance(trainer.scenes, FixedScenes):
        generator = scene_generator(trainer.scenes.seed, "validation", device=trainer.device)
        trainer.validation = Simulator(trainer.model.scenario, trainer.device).draw(VALIDATION_SCENES, generator)
        say(
            f"NMSE on {VALIDATION_SCENES} held-out scenes: mean {trainer.evaluate().mean():.4f} (the overfit test "
            "says nothing about these)"
        )
    if trainer.history and trainer.ranks.first:
        figures = folder / "figures"
        figures.mkdir(exist_ok=True)
        learning_curves({"run": trainer}).savefig(figures / "learning_curves.png", dpi=110)
        columns = {"loss": "loss as logged", "gradient_norm": "gradient norm", "update_norm": "norm of the update"}
        window_columns({"": {"run": trainer}}, columns).savefig(figures / "windows.png", dpi=110)
    say(f"config, ledger, checkpoints and figures are in {folder}")
