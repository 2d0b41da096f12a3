"""Tune loss weights, learning rate and width with any number of workers on any machines: one study in one storage.

A study stores its own settings, so a worker needs only its name and storage to join. It minimizes the NMSE on held-out
scenes, never the weighted loss, which small weights make small.
"""

import json
import math
import random
import re
import time
import urllib.parse
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import optuna
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from covlab.arguments import Text, checked
from covlab.scenes.simulator import scene_generator
from covlab.scenes.streams import FreshScenes
from covlab.tensor_arguments import device as here
from covlab.training.loss import LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.progress import Silent, interrupt_as_flag
from covlab.training.run_config import MINUTES, build
from covlab.training.study_settings import STORAGE, TRIALS, Settings, StudyError
from covlab.training.trainer import Trainer

PASSWORDS = (re.compile(r"://[^/?]*?:(.*)@"), re.compile(r"[?&][^=&]*pass[^=&]*=([^&]*)", re.IGNORECASE))
"""Passwords in the URL of a storage: user:PASSWORD@host, ?password=PASSWORD."""

RETRIES = 2
"""How often a trial is run again after its worker died. The limit keeps one bad trial from killing every worker."""


@dataclass(frozen=True)
class Tuned:
    """A trial's settings, ready to train with."""

    study: str
    trial: int
    nmse: float  #: the best of many on the study's own held-out scenes, so expect a slightly larger error elsewhere
    settings: Settings
    weights: LossWeights  #: their provenance names study and trial
    learning_rate: float
    width: int | None  #: None: the network's default


# ---------------------------------------------------------------- a study in its storage


@checked
def open_study(
    storage: Text, name: Text, sampler: optuna.samplers.BaseSampler | None = None, **given: Any
) -> optuna.Study:
    """Join the study ``name`` in ``storage``, or create it with the settings ``given`` (fields of :class:`Settings`).

    Args:
        storage: a URL for SQLAlchemy: sqlite:///studies.db, postgresql+psycopg2://…, mysql+mysqldb://….
        sampler: proposes this worker's trials; None: Optuna's TPE, which knows of the trials that run elsewhere.

    Raises:
        ValueError: a setting is unknown or out of its range.
        StudyError: the storage cannot be opened, or the study has other settings than those given.
    """
    settings = _settings(given)
    plain = _database(storage)
    try:
        study = optuna.create_study(storage=plain, study_name=name)
        study.set_user_attr("covlab", json.dumps(asdict(settings)))
        if settings.default:
            study.enqueue_trial(settings.default)
    except DuplicatedStudyError:
        stored = settings_of(storage, name)
        differences = [
            f"{key} is {getattr(stored, key)}, not {getattr(settings, key)}"
            for key in given
            if getattr(stored, key) != getattr(settings, key)
        ]
        if differences:
            raise StudyError(
                f"study {name!r} already has other settings; to join it, leave these out: {'; '.join(differences)}"
            ) from None
        settings = stored
    warm_up = math.ceil(settings.windows / settings.epoch) // 4
    return optuna.load_study(
        storage=_database(storage, settings.heartbeat),
        study_name=name,
        sampler=sampler or optuna.samplers.TPESampler(constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warm_up),
    )


@checked
def settings_of(storage: Text, name: Text) -> Settings:
    """Return the settings of the study ``name``.

    Raises:
        StudyError: there is no such study, or covlab did not create it.
    """
    file = _url(storage).database if storage.startswith("sqlite") else None
    if file is not None and not Path(file).exists():  # opening it would make it
        raise StudyError(f"storage {hide_password(storage)} has no study {name!r}, nor any other")
    database = _database(storage)
    if name not in (known := optuna.get_all_study_names(database)):
        others = f"only {', '.join(sorted(known))}" if known else "nor any other"
        raise StudyError(f"storage {hide_password(storage)} has no study {name!r}, {others}")
    study = optuna.load_study(storage=database, study_name=name)
    for _ in range(50):  # the worker that created the study may not have written them yet
        if "covlab" in study.user_attrs:
            return _settings(json.loads(study.user_attrs["covlab"]))
        time.sleep(0.1)
    raise StudyError(f"study {name!r} in {hide_password(storage)} has no settings of covlab: choose another name")


@checked
def best(storage: Text, name: Text) -> Tuned:
    """Return the best trial of a study so far.

    Raises:
        StudyError: there is no such study, or none of its trials is complete.
    """
    settings = settings_of(storage, name)
    study = optuna.load_study(storage=_database(storage), study_name=name)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        unfinished = len(study.get_trials(deepcopy=False))
        raise StudyError(f"study {name!r} has no complete trial yet ({unfinished} started or waiting)")
    trial = min(complete, key=_error)
    values = {key: trial.params.get(key, low) for key, (low, _) in settings.bounds.items()}
    config = settings.config(values, f"study {name}, trial {trial.number}")
    weights, learning_rate = LossWeights(**config["weights"]), config["recipe"]["learning_rate"]
    return Tuned(name, trial.number, _error(trial), settings, weights, learning_rate, config["width"])


def _error(trial: FrozenTrial) -> float:
    """Return the final NMSE of a complete trial."""
    assert trial.value is not None  # every complete trial has one
    return trial.value


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except TypeError as error:
        raise ValueError(f"settings must be fields of Settings, got {', '.join(given)} ({error})") from error


def _database(storage: str, heartbeat: int | None = None) -> RDBStorage:
    """Open the storage and create its tables. With a heartbeat, the trials of dead workers are run again."""
    file = _url(storage).get_backend_name() == "sqlite"
    attempt = 0
    while True:
        attempt += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    storage,
                    engine_kwargs={"connect_args": {"timeout": 60}} if file else {"pool_pre_ping": True},
                    heartbeat_interval=heartbeat,
                    heartbeat_stale_trial_callback=(
                        None if heartbeat is None else RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
                    ),
                )
        except ImportError as error:
            missing = error.__cause__ or error
            raise StudyError(f"storage {hide_password(storage)} needs a database driver: {missing}") from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            # When workers start together, all but one fail to create the tables; the next attempt finds them.
            if attempt == 5:
                reason = hide_password(str(getattr(error, "orig", error)), storage)
                raise StudyError(f"storage {hide_password(storage)} cannot be opened: {reason}") from error
            time.sleep(attempt * random.random())


def _url(storage: str) -> sqlalchemy.engine.URL:
    """Return the parsed URL of a storage. Raise ValueError if it is none that other processes can open."""
    try:
        url = sqlalchemy.engine.make_url(storage)
        url.get_dialect()
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise ValueError(f"storage must be a URL such as {STORAGE}, got {hide_password(storage)!r}") from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError(f"storage must be a database that other processes can open, got {storage!r} in memory")
    return url


def hide_password(text: str, storage: str | None = None) -> str:
    """Return ``text`` with the passwords of the URL ``storage`` (None: of ``text`` itself) as ``***``."""
    found = [secret for pattern in PASSWORDS for secret in pattern.findall(text if storage is None else storage)]
    found += [urllib.parse.unquote(secret) for secret in found]
    # A driver takes what follows an @ that is not quoted for the host.
    secrets = {part for secret in found for part in (secret, *secret.split("@")) if part}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


# ---------------------------------------------------------------- a worker


@checked
def work(
    study: optuna.Study,
    trials: Annotated[int | None, TRIALS.or_none("no limit")] = None,
    minutes: Annotated[float | None, MINUTES.or_none("no limit")] = None,
    device: Annotated[str, here] = "cpu",
    say: Callable[[str], None] = print,
) -> None:
    """Run trials for ``minutes``, or until all workers together have completed or pruned ``trials`` trials.

    The last trial is always finished. On SIGINT the running trial goes back to the study. If its worker is killed,
    another worker notices the missing heartbeat and runs the trial again.

    Raises:
        ValueError: ``trials`` or ``minutes`` is out of range.
        KeyboardInterrupt: SIGINT.
    """
    settings = _settings(json.loads(study.user_attrs["covlab"]))
    began, counted = time.monotonic(), (TrialState.COMPLETE, TrialState.PRUNED)
    while minutes is None or time.monotonic() - began < 60 * minutes:
        if trials is not None and len(study.get_trials(deepcopy=False, states=counted)) >= trials:
            break
        try:
            study.optimize(
                lambda trial: held_out_error(trial, settings, device),
                n_trials=1,
                callbacks=[lambda study, trial: say(_line(study, trial))],
            )
        except ValueError as error:
            if "Cannot tell a FAIL trial" not in str(error):
                raise
            # The machine may have slept without heartbeats, so another worker has taken the trial.
            say("another worker took over a trial, because this worker sent no heartbeat; continuing with the next one")


def held_out_error(trial: Trial, settings: Settings, device: str) -> float:
    """Train with the settings that ``trial`` proposes, and return the final NMSE on held-out scenes, to be minimized.

    Raises:
        TrialPruned: after some epoch the run was worse than the median of earlier trials, or its loss was not finite
            (pruned and not failed, so that the sampler learns from it).
    """
    values = settings.ask(trial)
    try:
        run = build(
            settings.config(values, f"study {trial.study.study_name}, trial {trial.number}"), device, progress=Silent()
        )
        assert isinstance(run.scenes, FreshScenes)  # ``Settings.config`` sets it
        run.validation = run.scenes.simulator.draw(
            settings.validation, scene_generator(settings.seed, "tuning", device=device)
        )
        with interrupt_as_flag() as interrupted:
            for _ in run.windows():
                if interrupted():
                    raise KeyboardInterrupt
                if run.window_of_epoch == 0 or run.window == run.recipe.windows:
                    report_epoch(run, trial)
    except NonFiniteLoss as error:
        raise optuna.TrialPruned("its loss was not finite") from error
    except KeyboardInterrupt:
        trial.study.enqueue_trial(trial.params)
        raise
    return run.history[-1]["validation"]


def report_epoch(run: Trainer, trial: Trial) -> None:
    """Report the last epoch of ``run`` to the study. Raise TrialPruned if the pruner stops the trial."""
    trial.report(run.history[-1]["validation"], step=len(run.history))
    if run.window < run.recipe.windows and trial.should_prune():
        raise optuna.TrialPruned


def _line(study: optuna.Study, trial: FrozenTrial) -> str:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = min(complete, key=_error, default=None)
    what = (
        f"NMSE {_error(trial):.4f}"
        if trial.state == TrialState.COMPLETE
        else f"{trial.state.name.lower()} after epoch {trial.last_step}"
    )
    values = ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items())
    return f"trial {trial.number}: {what} ({values})" + (
        f"; best {_error(best):.4f}, trial {best.number}" if best else ""
    )
