"""`covlab tune`: join a study from a shell."""

import shlex
from typing import Any

import click
from click.core import ParameterSource

from covlab.cli.options import Number, Text, device_option, refusals, refuse_twice, shown, storage_option
from covlab.scenes.scenario import PRESETS
from covlab.training.recipe import PRECISIONS
from covlab.training.run_config import MINUTES, NETWORKS
from covlab.training.study_settings import FIELDS, STORAGE, TRIALS, StudyError


def _search(
    context: click.Context, parameter: click.Parameter, entries: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    refuse_twice("--search", (entry.partition("=")[0] for entry in entries))
    search = {}
    for entry in entries:
        name, _, bounds = entry.partition("=")
        low, _, high = bounds.partition(":")
        try:
            number = int if name == "width" else float
            search[name] = (number(low), number(high or low))
        except ValueError:
            raise click.BadParameter(f"must be NAME=LOW:HIGH or NAME=VALUE, got {shown(entry)}") from None
    return search


@click.command()
@click.option(
    "--study", "name", type=Text(), required=True, help="Name of the study; it is created, or joined if it exists."
)
@storage_option(default=STORAGE, help="URL of a file, or of a database for many machines (postgresql+psycopg2://…).")
@click.option(
    "--trials", type=Number(int, TRIALS), help="Stop when the study has this many finished trials, from all workers."
)
@click.option("--minutes", type=Number(float, MINUTES), help="Start no new trial after this many minutes.")
@click.option("--preset", type=click.Choice(PRESETS), help="What is simulated. [default: student]")
@click.option("--network", type=click.Choice(tuple(NETWORKS)), help="[default: back-projection]")
@click.option("--windows", type=Number(int, FIELDS["windows"]), help="Budget of a trial in windows. [default: 600]")
@click.option(
    "--epoch",
    type=Number(int, FIELDS["epoch"]),
    help="Windows between validations, after which a trial may be pruned. [default: 60]",
)
@click.option("--micro-batch", type=Number(int, FIELDS["micro_batch"]), help="Scenes per micro-batch. [default: 32]")
@click.option("--accumulation", type=Number(int, FIELDS["accumulation"]), help="Micro-batches per window. [default: 4]")
@click.option("--precision", type=click.Choice(tuple(PRECISIONS)), help="[default: fp32]")
@click.option(
    "--seed",
    type=Number(int, FIELDS["seed"]),
    help="Seed of scenes and initial parameters, the same for all trials. [default: 0]",
)
@click.option(
    "--validation", type=Number(int, FIELDS["validation"]), help="Held-out scenes that score a trial. [default: 1024]"
)
@click.option(
    "--heartbeat", type=Number(int, FIELDS["heartbeat"]), help="Seconds between a worker's signs of life. [default: 30]"
)
@click.option(
    "--search",
    multiple=True,
    callback=_search,
    metavar="NAME=LOW:HIGH",
    help="Search only the settings named here; NAME=VALUE fixes one; may be repeated.",
)
@device_option
def tune(name: str, storage: str, trials: int | None, minutes: float | None, device: str, **given: Any) -> None:
    """Tune loss weights, learning rate and width; any number of workers join one study by name."""
    if trials is None and minutes is None:
        raise click.UsageError("give --trials, --minutes or both")
    import optuna
    import sqlalchemy

    from covlab.training.study import best, hide_password, open_study, work

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        settings = {key: value for key, value in given.items() if value not in (None, {})}
        with refusals(ValueError, StudyError, usage=True):
            study = open_study(storage, name, **settings)
        with refusals(ValueError, StudyError):
            options = f"--study {shlex.quote(name)}"
            source = click.get_current_context().get_parameter_source("storage")
            if source != ParameterSource.ENVIRONMENT:  # the next command reads the same variable
                options += f" --storage {shlex.quote(hide_password(storage))}"
            click.echo(
                f"study {name} in {hide_password(storage)}; another worker joins with: "
                f"covlab tune {options} --minutes 10"
            )
            work(study, trials, minutes, device, click.echo)
            found = best(storage, name)
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = hide_password(str(error.__cause__ or error), storage).splitlines()[0]
        raise click.ClickException(f"{hide_password(storage)} does not work any more: {reason}") from error
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the trial goes back to the study") from None
    click.echo(
        f"best: trial {found.trial}, NMSE {found.nmse:.4f} after {found.settings.windows} windows, learning rate "
        f"{found.learning_rate:.3g}, width {found.width}"
    )
    for weight, value in found.weights.values().items():
        click.echo(f"  {weight:<20}{value:<10.3g}{found.weights.provenance[weight]}")
    click.echo(f"to train with it: covlab train {options}")
