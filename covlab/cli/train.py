"""`covlab train`: train a network from a shell. A run's folder holds its settings, so the run can be resumed."""

import json
import os
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from covlab.arguments import LARGEST, number
from covlab.cli.options import (
    ExistingPath,
    Number,
    OutputFolder,
    Text,
    device_option,
    ran_out_of_memory,
    refusals,
    refuse_twice,
    seed_option,
    shown,
    storage_option,
)
from covlab.durable_files import make_folder, sync
from covlab.metrics import by_snr
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.checkpoint import CheckpointError, RunFolder
from covlab.training.loss import WEIGHT, LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.ranks import RankLost, Ranks, device_of_rank, joined
from covlab.training.recipe import FIELDS as RECIPE
from covlab.training.recipe import OPTIMIZERS, PRECISIONS, Recipe
from covlab.training.run_config import FIELDS as RUN
from covlab.training.run_config import (
    MINUTES,
    NETWORKS,
    OVERFIT_SCENES,
    VALIDATION_SCENES,
    build,
    configure,
    windows_within,
)
from covlab.training.trainer import Trainer

if TYPE_CHECKING:
    from covlab.training.study import Tuned


INTERRUPTED = 130
"""Exit status of a run that ended early, as shells have it after Ctrl-C, so that a script does not take it for done."""


def _weights(context: click.Context, parameter: click.Parameter, settings: tuple[str, ...]) -> dict[str, float]:
    names = LossWeights.names()
    refuse_twice("--weight", (setting.partition("=")[0] for setting in settings))
    weights = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name not in names or not equals:
            raise click.BadParameter(f"must be NAME=VALUE with NAME one of {', '.join(names)}, got {shown(setting)}")
        try:
            weights[name] = Number(float, WEIGHT).convert(value, None, context)
        except click.BadParameter as error:
            raise click.BadParameter(f"{name} {error.message}") from None
    return weights


@click.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="student", help="What is simulated.")
@click.option(
    "--network", type=click.Choice(tuple(NETWORKS)), help="[default: back-projection at student size, else unrolled]"
)
@click.option(
    "--windows",
    type=Number(int, RECIPE["windows"]),
    default=1500,
    help="Budget in windows (optimizer steps); with --resume, the new budget of the whole run.",
)
@click.option(
    "--minutes",
    type=Number(float, MINUTES),
    help="Budget in minutes, from now on; covlab times a few windows and converts it to windows.",
)
@click.option("--overfit", is_flag=True, help=f"Train on the same {OVERFIT_SCENES} scenes instead of fresh ones.")
@seed_option
@click.option("--micro-batch", type=Number(int, RUN["micro_batch"]), default=32, help="Scenes per micro-batch.")
@click.option("--accumulation", type=Number(int, RECIPE["accumulation"]), default=4, help="Micro-batches per window.")
@click.option(
    "--epoch",
    "windows_per_epoch",
    type=Number(int, RUN["windows_per_epoch"]),
    default=100,
    help="With fresh scenes: windows between validations.",
)
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adamw")
@click.option("--learning-rate", type=Number(float, RECIPE["learning_rate"]), default=3e-3)
@click.option(
    "--clip",
    type=Number(float, number(least=0, most=LARGEST)),
    default=1.0,
    help="Largest gradient norm; 0: never clip.",
)
@click.option("--precision", type=click.Choice(tuple(PRECISIONS)), default="fp32")
@click.option(
    "--ema-decay",
    type=Number(float, RECIPE["ema_decay"]),
    help="Decay of the parameters' average, which is validated and saved.",
)
@click.option(
    "--patience", type=Number(int, RECIPE["patience"]), help="Stop after this many epochs without a better validation."
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    callback=_weights,
    metavar="NAME=VALUE",
    help="A loss weight, such as lam_gap=0; may be repeated.",
)
@click.option(
    "--study", type=Text(), help="Take network, width, learning rate and weights from the best trial of this study."
)
@storage_option(help="URL of that study. [default: as in covlab tune]")
@click.option("--nmse-only", is_flag=True, help="Switch off all loss terms except the NMSE and those of --weight.")
@device_option
@click.option("--folder", type=OutputFolder(), help="Where the run's files go. [default: runs/PRESET-TIME]")
@click.option("--resume", type=ExistingPath(file_okay=False), help="Resume the run in this folder.")
@click.option("--previous", is_flag=True, help="With --resume: start from the checkpoint before the last.")
@click.option("--debug", is_flag=True, help="Also log whether the first loss is finite, and gradient norms per epoch.")
@refusals(ValueError, FileExistsError, CheckpointError, NonFiniteLoss)
def train(**given: Any) -> None:
    """Train a network; config, ledger, checkpoints and figures go to a folder.

    The exit status is 130 if Ctrl-C or SIGTERM ended the run early; it can be resumed.
    """
    _check_combinations()
    resume: Path | None = given["resume"]
    folder: Path | None = resume or given["folder"]
    interrupted = False
    try:
        device = device_of_rank(given["device"])
        with joined(device) as ranks:
            say = click.echo if ranks.first else lambda line: None
            if resume is None:
                with refusals(ValueError, FileExistsError, usage=True):
                    if folder is not None:
                        ranks.once(RunFolder(folder).refuse_taken)
                    config = _new_config(given, ranks)
                    _set_budget(config, given, device, ranks, say)
                folder = folder or ranks.once(lambda: new_folder(config["scenario"]["name"]))
                trainer = build(config, device, folder=folder, debug=given["debug"], ranks=ranks)
                say(f"folder {folder}")
            else:
                config, folder = _stored_config(resume, ranks), resume
                edited = (LookupError, TypeError, AttributeError, ValueError)
                with refusals(*edited, prefix=f"{resume / 'config.json'} was edited or damaged: "):
                    _set_budget(config, given, device, ranks, say)
                    trainer = build(config, device, folder=resume, debug=given["debug"], ranks=ranks)
                say(f"folder {resume}")
                with refusals(ValueError, usage=True):
                    trainer.resume(given["previous"], extend=True)
                say(f"resuming after window {trainer.window} of {trainer.recipe.windows}")
            try:
                trainer.fit()
                _summary(trainer, folder, say)
            except KeyboardInterrupt:  # the second one: the first ends the run in order
                say(f"to continue from the last checkpoint: {_command(folder, ranks.size)}")
                raise
            if trainer.window < trainer.recipe.windows:
                if trainer.out_of_patience():
                    say(f"stopped: no better validation for {trainer.recipe.patience} epochs")
                else:
                    say(f"to continue: {_command(folder, ranks.size)}")
                    interrupted = True
    except RankLost as error:
        again = "" if folder is None else f"; to resume the run: {_command(folder, ranks.size)}"
        raise click.ClickException(f"{error}{again}") from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise click.ClickException("not enough memory: choose a smaller --micro-batch or --accumulation") from error
    except OSError as error:
        if error.errno is None:  # not of the system: the folder holds another run
            raise
        again = ""
        if folder is not None and (folder / "config.json").exists():
            again = f"; to resume from the last checkpoint: {_command(folder, ranks.size)}"
        raise click.ClickException(f"{error.strerror}: {error.filename or folder}{again}") from error
    if interrupted:
        click.get_current_context().exit(INTERRUPTED)


def _check_combinations() -> None:
    """Raise UsageError if options contradict each other."""
    if _given("minutes") and _given("windows"):
        raise click.UsageError("give --windows or --minutes, not both")
    for option, other in (("previous", "resume"), ("storage", "study")):
        if _given(option) and not _given(other):
            raise click.UsageError(f"--{option} goes with --{other}")
    names = sorted(click.get_current_context().params)
    if _given("resume"):
        allowed = ("resume", "previous", "device", "debug", "windows", "minutes")
        if clash := [name for name in names if _given(name) and name not in allowed]:
            raise click.UsageError(f"a resumed run keeps its own settings; leave out {', '.join(clash)}")
    clash = [name for name in ("network", "learning_rate", "weights", "nmse_only") if _given(name)]
    if clash and _given("study"):
        raise click.UsageError(f"--study sets these itself; leave out {', '.join(clash)}")


def _new_config(given: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Return the settings of a new run. Raise ValueError if one is out of its range."""
    name, network, width = given["preset_name"], given["network"], None
    recipe = {field: given[field] for field in RECIPE if field in given} | {"clip": given["clip"] or None}
    with refusals(ValueError, prefix="--weight: ", usage=True):
        if given["nmse_only"]:
            weights = LossWeights.only(**({"lam_cov": 1.0} | given["weights"]))
        else:
            weights = LossWeights(**given["weights"])
    if given["study"] is not None:
        found = ranks.once(lambda: _best(given["study"], given["storage"]))
        name = name if _given("preset_name") else found.settings.preset
        network, width, weights = found.settings.network, found.width, found.weights
        recipe["learning_rate"] = found.learning_rate
    network = network or ("back-projection" if name == "student" else "unrolled")
    scenes = (given["overfit"], given["seed"], given["micro_batch"], given["windows_per_epoch"])
    return configure(preset(name), NETWORKS[network].__name__, *scenes, Recipe(**recipe), weights, width)


def _set_budget(
    config: dict[str, Any], given: dict[str, Any], device: str, ranks: Ranks, say: Callable[[str], None]
) -> None:
    """Give the run the budget of --windows or --minutes; the minutes of a resumed run begin now."""
    if _given("windows"):
        config["recipe"]["windows"] = given["windows"]
    if given["minutes"] is not None:
        windows = windows_within(config, given["minutes"], device, ranks)
        say(f"{given['minutes']:g} minutes: {windows} windows on this machine")
        trained = 0 if given["resume"] is None else RunFolder(given["resume"]).trained(given["previous"])
        config["recipe"]["windows"] = trained + windows


def new_folder(preset_name: str) -> Path:
    """Make a folder of its own for a run; runs that begin in the same second get different ones."""
    stem = f"{preset_name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = Path("runs") / stem, 1
    make_folder(folder.parent)
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = Path("runs") / f"{stem}-{number}"
        else:
            sync(folder.parent)
            return folder


def _command(folder: Path, ranks: int) -> str:
    return (
        "covlab" if ranks == 1 else f"torchrun --nproc-per-node {ranks} -m covlab"
    ) + f" train --resume {shlex.quote(str(folder))}"


def _processes(ranks: int) -> str:
    return "one process" if ranks == 1 else f"{ranks} ranks"


def _best(study: str, storage: str | None) -> "Tuned":
    from covlab.training.study import best
    from covlab.training.study_settings import STORAGE, StudyError

    with refusals(StudyError, ValueError, usage=True):
        found = best(storage or STORAGE, study)
    click.echo(
        f"study {study}, trial {found.trial}: NMSE {found.nmse:.4f}, learning rate {found.learning_rate:.3g}, width "
        f"{found.width or 'the default'}"
    )
    return found


def _given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _stored_config(folder: Path, ranks: Ranks) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.BadParameter(
            f"must be the folder of a run, got {str(folder)!r}, which has no config.json", param_hint="'--resume'"
        ) from None
    except ValueError as error:
        raise click.ClickException(f"{path} is damaged: {error}") from None
    if not isinstance(config, dict) or "ranks" not in config:
        raise click.ClickException(f"{path} was edited or damaged: it does not say how many ranks the run has")
    if config["ranks"] != ranks.size:
        raise click.UsageError(
            f"the run in {folder} used {_processes(config['ranks'])}, and this command uses "
            f"{_processes(ranks.size)}: {_command(folder, config['ranks'])}"
        )
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
    if not os.access(folder, os.W_OK):  # a finished run on read-only media
        say(f"config, ledger and checkpoints are in {folder}; no figures are drawn, because it is read-only")
        return
    if trainer.history and trainer.ranks.first:
        figures = folder / "figures"
        figures.mkdir(exist_ok=True)
        learning_curves({"run": trainer}).savefig(figures / "learning_curves.png", dpi=110)
        columns = {"loss": "loss as logged", "gradient_norm": "gradient norm", "update_norm": "norm of the update"}
        window_columns({"": {"run": trainer}}, columns).savefig(figures / "windows.png", dpi=110)
    say(f"config, ledger, checkpoints and figures are in {folder}")
