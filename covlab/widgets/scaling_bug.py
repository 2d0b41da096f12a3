"""A correct and a buggy run from the same seed, side by side."""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import median

from matplotlib.figure import Figure

from covlab.arguments import SEED, one_of
from covlab.faults import FAULTS
from covlab.faults.small_run import LEARNING_RATES, MICRO_BATCHES, exhibit
from covlab.plots.training import side_by_side
from covlab.training.recipe import OPTIMIZERS
from covlab.training.trainer import Trainer
from covlab.widgets.background import KEPT, TrainingExplorer
from covlab.widgets.controls import ChoiceControl, NumberControl, decades

EPOCHS = 12
BUG = ("off", "on")


class ScalingBugExplorer(TrainingExplorer):
    """Two runs that memorize 120 scenes: one with the correct loop, one with the bug on or off.

    With the bug off, both runs are identical.

    Args:
        fault: the bug; `covlab faults` lists them.
        seed: of scenes and first parameters.
    """

    title = "A correct and a buggy run from one seed"

    def __init__(self, fault: str = "division_in_debug_block", seed: int = 0):
        one_of(FAULTS).check("fault", fault)
        SEED.check("seed", seed)
        self.fault, self.seed = fault, seed
        self._pair = lru_cache(KEPT)(self._new_pair)
        super().__init__(
            {
                "bug": ChoiceControl("the bug", "on", BUG),
                "optimizer": ChoiceControl("optimizer", "adamw", OPTIMIZERS),
                "accumulation": NumberControl("micro-batches per window", 4.0, range(1, 9), whole=True),
                "clip": NumberControl("clip the gradient at", 1.0, [0.0, *decades(-1, 1)], words={0: "never"}),
            },
        )

    def runs(self, state: dict) -> list[Trainer]:
        return list(self.pair(state).values())

    def paint(self) -> None:
        super().paint()
        self.say(self.verdict(self.state))

    def pair(self, state: dict) -> dict[str, Trainer]:
        """Return {"correct run": run, "the bug on" or "the bug off": run} for a state, trained or not."""
        return self._pair(state["bug"], state["optimizer"], int(state["accumulation"]), state["clip"])

    def _new_pair(self, bug: str, optimizer: str, accumulation: int, clip: float) -> dict[str, Trainer]:
        setting = {
            "optimizer": optimizer,
            "learning_rate": LEARNING_RATES[optimizer],
            "weight_decay": 0.0,
            "accumulation": accumulation,
            "clip": clip or None,
            "windows": EPOCHS * math.ceil(MICRO_BATCHES / accumulation),
        }
        runs = {"correct run": True, f"the bug {bug}": bug == "off"}
        return {name: exhibit(self.fault, self.seed, without, **setting) for name, without in runs.items()}

    def verdict(self, state: dict) -> str:
        """Say in a few sentences how the two runs differ."""
        correct, buggy = self.pair(state).values()
        if not (correct.history and buggy.history):
            return "Training has not finished its first epoch."
        return self.so_far(state, self._difference(state["bug"], correct, buggy))

    def _difference(self, bug: str, correct: Trainer, buggy: Trainer) -> str:
        if bug == "off":
            return "The bug is off: the two runs are identical."
        if not buggy.ledger.rows:
            return (
                f"With the bug on, no step is taken: the log shows {buggy.history[-1]['train']:.6f}, and the NMSE "
                f"stays at {buggy.history[-1]['validation']:.3f}."
            )

        def ratio(value: Callable[[Trainer], float]) -> str:
            over = value(buggy) / value(correct) if value(correct) else math.nan
            return f"× {over:.2f}" if math.isfinite(over) else "not finite"

        return (
            f"Bug on, compared with the correct run: logged loss {ratio(lambda run: run.history[-1]['train'])}, "
            f"gradient norm {ratio(lambda run: median(row['gradient_norm'] for row in run.ledger.rows))}, "
            f"update norm {ratio(lambda run: median(row['update_norm'] for row in run.ledger.rows))}, "
            f"NMSE {ratio(lambda run: run.history[-1]['validation'])}. Windows clipped: correct run "
            f"{clip_rate(correct):.0%}, bug on {clip_rate(buggy):.0%}."
        )

    def picture_of(self, state: dict) -> tuple[Figure, str]:
        pair = self.pair(state)
        reached = ", ".join(f"{name} {run.history[-1]['validation']:.3f}" for name, run in pair.items() if run.history)
        clip = f"clipped at {state['clip']:g}" if state["clip"] else "never clipped"
        alt = (
            f"The bug is {state['bug']}, {state['optimizer']}, {state['accumulation']:g} micro-batches per window, "
            f"{clip}. Logged loss and NMSE over the epochs, first with the correct loop, then with the bug "
            f"{state['bug']}; last, both gradient norms over the windows. {self.so_far(state, f'NMSE: {reached}')}. "
            f"{self.verdict(state)}"
        )
        return self.figure(pair), alt

    def figure(self, pair: dict[str, Trainer]) -> Figure:
        """Draw the two runs of ``pair``."""
        return side_by_side(pair, EPOCHS)


def clip_rate(run: Trainer) -> float:
    """Return the share of windows whose gradient was clipped."""
    clip, rows = run.recipe.clip or math.inf, run.ledger.rows
    return sum(row["gradient_norm"] > clip for row in rows) / max(len(rows), 1)
