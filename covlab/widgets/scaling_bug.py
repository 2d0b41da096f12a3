"""A clean run and a bugged one from the same seed, side by side."""

import math
from collections.abc import Callable
from statistics import median

from matplotlib.figure import Figure

from covlab.faults import FAULTS
from covlab.faults.small_run import LEARNING_RATES, MICRO_BATCHES, exhibit, in_turn
from covlab.plots.training import side_by_side
from covlab.training.recipe import OPTIMIZERS
from covlab.training.trainer import Trainer
from covlab.widgets import Explorer
from covlab.widgets.background import Background
from covlab.widgets.controls import ChoiceControl, NumberControl, decades

EPOCHS = 12
BUG = ("off", "on")


class ScalingBugExplorer(Explorer):
    """120 scenes memorized twice: as the loop should be, and with the bug on or off. With the bug off the two are one.

    Args:
        fault: which bug; `covlab faults` lists them.
        seed: of scenes and first parameters.
    """

    title = "Clean and bugged from one seed"
    STILLS = (
        ("The bug under AdamW, never clipped", {"bug": "on", "optimizer": "adamw", "clip": 0.0}),
        ("The bug under AdamW, clipped at 1", {"bug": "on", "optimizer": "adamw", "clip": 1.0}),
        ("The bug under SGD, never clipped", {"bug": "on", "optimizer": "sgd", "clip": 0.0}),
        (
            "One micro-batch a window: a division by one, or none",
            {"bug": "on", "optimizer": "adamw", "clip": 1.0, "accumulation": 1.0},
        ),
    )

    def __init__(self, fault: str = "division_in_debug_block", seed: int = 0):
        if fault not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}, got {fault!r}")
        self.fault, self.seed = fault, seed
        self.pairs: dict[tuple, dict[str, Trainer]] = {}
        super().__init__(
            {
                "bug": ChoiceControl("the bug", "on", BUG),
                "optimizer": ChoiceControl("optimizer", "adamw", OPTIMIZERS),
                "accumulation": NumberControl(
                    "micro-batches a window",
                    4.0,
                    [float(count) for count in range(1, 9)],
                    label_width="13.5em",
                    whole=True,
                ),
                "clip": NumberControl(
                    "clip the gradient at", 1.0, [0.0, *decades(-1, 1)], words={0: "never"}, label_width="13.5em"
                ),
            }
        )
        self.background = Background("training", self.guarded(self.paint), self.fail)
        self.extra = [self.background.row]

    def draw(self, state: dict) -> tuple[Figure, str]:
        pair = self.pair(state)
        if not self.background.running:
            for _ in in_turn(*pair.values()):
                pass
        return self._picture(state)

    def redraw(self) -> None:
        """From what was trained before at once; else in the background, and the curves grow."""
        pair = self.pair(self.state)
        if not _done(pair):
            self.background.start(in_turn(*pair.values()))
        self.paint()

    def first_draw(self) -> None:
        self.draw(self.state)
        self.paint()

    def paint(self) -> None:
        """The picture of as much as has been trained."""
        self._paint(*self._picture(self.state))
        self.say(self.verdict(self.state))

    def pair(self, state: dict) -> dict[str, Trainer]:
        """{"clean": run, "the bug on" or "off": run} for a state, trained or not."""
        key = tuple(state.values())
        if key not in self.pairs:
            accumulation, optimizer = int(state["accumulation"]), state["optimizer"]
            setting = {
                "optimizer": optimizer,
                "learning_rate": LEARNING_RATES[optimizer],
                "weight_decay": 0.0,
                "accumulation": accumulation,
                "clip": state["clip"] or None,
                "windows": EPOCHS * math.ceil(MICRO_BATCHES / accumulation),
            }
            off = state["bug"] == "off"
            self.pairs[key] = {
                "clean": exhibit(self.fault, self.seed, without=True, **setting),
                "the bug off" if off else "the bug on": exhibit(self.fault, self.seed, without=off, **setting),
            }
        return self.pairs[key]

    def verdict(self, state: dict) -> str:
        """What tells the two runs apart, in a sentence each."""
        clean, bugged = self.pair(state).values()
        if not (clean.history and bugged.history):
            return "Training …"
        if state["bug"] == "off":
            return "The bug is off: two runs from one seed are one and the same."
        if not bugged.ledger.rows:
            return (
                f"With the bug on, no step is taken: it logs {bugged.history[-1]['train']:.6f}, and the NMSE "
                f"stays {bugged.history[-1]['validation']:.3f}."
            )

        def ratio(value: Callable[[Trainer], float]) -> str:
            over = value(bugged) / value(clean) if value(clean) else math.nan
            return f"× {over:.2f}" if math.isfinite(over) else "not finite"

        return (
            f"The bug on, against clean: logged loss {ratio(lambda run: run.history[-1]['train'])}, "
            f"gradient norm {ratio(lambda run: median(row['gradient_norm'] for row in run.ledger.rows))}, "
            f"update norm {ratio(lambda run: median(row['update_norm'] for row in run.ledger.rows))}, "
            f"NMSE reached {ratio(lambda run: run.history[-1]['validation'])}. Windows clipped: clean "
            f"{clip_rate(clean):.0%}, bug on {clip_rate(bugged):.0%}."
        )

    def _picture(self, state: dict) -> tuple[Figure, str]:
        pair = self.pair(state)
        reached = ", ".join(f"{name} {run.history[-1]['validation']:.3f}" for name, run in pair.items() if run.history)
        clip = f"clipped at {state['clip']:g}" if state["clip"] else "never clipped"
        alt = (
            f"{self.fault} {state['bug']}, {state['optimizer']}, {state['accumulation']:g} micro-batches a window, "
            f"{clip}. Logged loss and NMSE over the epochs, left as it should be, in the middle with the bug "
            f"{state['bug']}; right, both gradient norms over the windows. NMSE: {reached}. {self.verdict(state)}"
        )
        return self._figure(pair), alt

    def _figure(self, pair: dict[str, Trainer]) -> Figure:
        return side_by_side(pair, EPOCHS)


def clip_rate(run: Trainer) -> float:
    """The share of windows whose gradient was clipped."""
    norms = [row["gradient_norm"] for row in run.ledger.rows]
    return sum(run.recipe.clip is not None and norm > run.recipe.clip for norm in norms) / max(len(norms), 1)


def _done(pair: dict[str, Trainer]) -> bool:
    return all(run.window == run.recipe.windows for run in pair.values())
