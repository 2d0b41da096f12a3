"""What each weight of the loss does: to the loss, to the gradient, to a training run."""

from functools import cached_property

import ipywidgets
from matplotlib.figure import Figure

from covlab import plots
from covlab.course.experiments.gradient_pulls import BLEND, terms_of
from covlab.faults.small_run import in_turn, small_run
from covlab.plots.loss_terms import Terms, term_shares, weighted_runs
from covlab.scenes.batch import concatenate
from covlab.training.loss import LossWeights
from covlab.training.trainer import Trainer
from covlab.widgets import Explorer
from covlab.widgets.background import Background
from covlab.widgets.controls import NumberControl, decades


class LossWeightsExplorer(Explorer):
    """Nine weights; shares of the loss and the gradient, term by term, on a real batch; training with them.

    A weight scales its term's gradient and nothing else, so each gradient is computed once, on an untrained
    network and 120 scenes.

    Args:
        seed: of scenes and first parameters.
        windows: to train for, to begin with.
    """

    title = "The weights of the loss: what each one weighs"
    STILLS = (
        ("The defaults", {}),
        ("The NMSE alone", dict.fromkeys(LossWeights().values(), 0.0) | {"lam_cov": 1.0}),
        ("lam_cross at 1: the off-diagonal part of what lam_cov weighs already", {"lam_cross": 1.0}),
        ("lam_ortho at 1: a term that has nothing to do with the truth takes the lead", {"lam_ortho": 1.0}),
    )
    RUNS: tuple[dict[str, float], ...] = ({}, {"lam_ortho": 1.0}, {"lam_cov": 0.01})
    """Changes to the defaults that ``still`` trains with."""

    def __init__(self, seed: int = 0, windows: int = 60):
        self.seed = seed
        self.runs: list[tuple[str, Trainer]] = []
        weights = LossWeights().values()
        super().__init__(
            {
                name: NumberControl(name, weight, [0.0, *decades(-4, 2)], words={0: "off"})
                for name, weight in weights.items()
            }
        )
        self.windows = NumberControl("windows to train", windows, [20, 40, 60, 100, 200, 400], whole=True)
        self.train_button = ipywidgets.Button(description="Train", button_style="primary")
        self.train_button.on_click(self.guarded(lambda button: self.train()))
        self.background = Background("training", self.guarded(self.redraw_curve), self.fail)
        self.curve = ipywidgets.HTML()
        row = ipywidgets.Box(
            [self.windows.widget, self.train_button, self.background.row], layout={"flex_flow": "row wrap"}
        )
        self.extra = [row, self.curve]

    @cached_property
    def terms(self) -> Terms:
        """Every term and its gradient, unweighted."""
        run = self._trainer(dict.fromkeys(LossWeights().values(), 1.0), 1)
        return terms_of(run, concatenate(list(run.scenes.micro_batches(0))))

    def draw(self, state: dict) -> tuple[Figure, str]:
        seen = self.terms.weighted(state)
        on = [name for name, weight in state.items() if weight > 0]
        told = "; ".join(
            f"{name} {seen.loss_shares[name]:.1%} of the loss, gradient {seen.norms[name]:.3g}" for name in on
        )
        alt = (
            f"Left, each term's share of the loss and its gradient's share. {told or 'Every term is off'}. Off: "
            f"{', '.join(sorted(set(state) - set(on))) or 'none'}. Loss {seen.loss:.4g}, length of its gradient "
            f"{seen.norm:.4g}. Right, cosines between the terms' gradients and with the whole: "
            + ", ".join(f"{name} {seen.with_total[name]:.2f} with the whole" for name in on)
            + "."
        )
        return term_shares(self.terms, seen, state), alt

    def redraw(self) -> None:
        super().redraw()
        try:
            LossWeights.only(**self.state)
            self.say()
        except ValueError as refusal:
            self.say(f"LossWeights refuses these weights: {refusal}")

    def train(self) -> None:
        """Train with the weights as they stand, in the background; its curve joins those of earlier settings."""
        try:
            run = self._trainer(self.state, int(self.windows.value))
        except ValueError as refusal:
            self.say(f"No training: {refusal}")
            return
        self.runs.append((self._name(self.state), run))
        self.background.start(in_turn(run))

    def redraw_curve(self) -> None:
        figure, alt = self._curves()
        self.curve.value = plots.image(figure, alt)

    def still(self) -> None:
        """The picture for a few settings, and training with three."""
        super().still()
        defaults, self.runs = LossWeights().values(), []
        for change in self.RUNS:
            run = self._trainer(defaults | change, int(self.windows.value))
            self.runs.append((self._name(defaults | change), run.fit()))
        plots.show(*self._curves())

    def _curves(self) -> tuple[Figure, str]:
        reached = [(name, run.history[-1]["validation"]) for name, run in self.runs if run.history]
        alt = "Held-out NMSE over the windows of each training, whatever its weights. " + "; ".join(
            f"{name}: {value:.3f}" for name, value in reached
        )
        return weighted_runs(self.runs), alt

    def _trainer(self, weights: dict[str, float], windows: int) -> Trainer:
        return small_run(seed=self.seed, weights=weights, windows=windows, fresh=True, blend=BLEND)

    @staticmethod
    def _name(weights: dict[str, float]) -> str:
        changed = [
            f"{name} = {weights[name]:g}"
            for name, default in LossWeights().values().items()
            if weights[name] != default
        ]
        return ", ".join(changed) or "defaults"
