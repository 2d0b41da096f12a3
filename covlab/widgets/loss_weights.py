"""What each weight of the loss does to the loss, to the gradient and to a training run."""

from functools import cached_property

import ipywidgets
from matplotlib.figure import Figure

from covlab import plots
from covlab.arguments import SEED, whole_number
from covlab.course.experiments.gradient_pulls import BLEND, terms_of
from covlab.faults.small_run import in_turn, small_run
from covlab.plots.loss_terms import Terms, term_shares, weighted_runs
from covlab.scenes.batch import concatenate
from covlab.training.loss import LossWeights
from covlab.training.trainer import Trainer
from covlab.widgets import Explorer
from covlab.widgets.background import KEPT, Background
from covlab.widgets.controls import NumberControl, decades


class LossWeightsExplorer(Explorer):
    """Nine weights: each term's share of the loss and of the gradient on one batch, and training with these weights.

    A weight only scales its term's gradient, so each gradient is computed once, on an untrained network and 120 scenes.

    Args:
        seed: of scenes and first parameters.
        windows: first value of the control for the windows to train.
    """

    title = "The weights of the loss: what each one contributes"
    STILLS = (
        ("The defaults", {}),
        ("Only the NMSE", dict.fromkeys(LossWeights().values(), 0.0) | {"lam_cov": 1.0}),
        ("lam_cross at 1: lam_cov already covers the off-diagonal part", {"lam_cross": 1.0}),
        ("lam_ortho at 1: a term that ignores the truth dominates the gradient", {"lam_ortho": 1.0}),
    )
    RUNS: tuple[dict[str, float], ...] = ({}, {"lam_ortho": 1.0}, {"lam_cov": 0.01})
    """Changes to the default weights; ``still`` trains a run with each of them."""

    def __init__(self, seed: int = 0, windows: int = 60):
        SEED.check("seed", seed)
        whole_number(1, 10_000).check("windows", windows)
        self.seed = seed
        self.runs: list[tuple[str, Trainer]] = []
        defaults, grid = LossWeights().values(), [0.0, *decades(-4, 2)]
        super().__init__(
            {name: NumberControl(name, weight, grid, words={0: "off"}) for name, weight in defaults.items()}
        )
        self.windows = NumberControl("windows to train", windows, [20, 40, 60, 100, 200, 400], whole=True)
        self.train_button = ipywidgets.Button(description="Train", button_style="primary")
        self.train_button.on_click(self.guarded(lambda button: self.train()))
        self.background = Background("training", self.guarded(self.redraw_curve), self.fail)
        self.curve = ipywidgets.HTML()
        row = [self.windows.widget, self.train_button, self.background.row]
        self.extra = [ipywidgets.Box(row, layout={"flex_flow": "row wrap"}), self.curve]

    @cached_property
    def terms(self) -> Terms:
        """Unweighted terms and their gradients."""
        run = self._trainer(dict.fromkeys(LossWeights().values(), 1.0), 1)
        return terms_of(run, concatenate(list(run.scenes.micro_batches(0))))

    def draw(self, state: dict) -> tuple[Figure, str]:
        seen = self.terms.weighted(state)
        on = [name for name, weight in state.items() if weight > 0]
        terms = "; ".join(
            f"{name} {seen.loss_shares[name]:.1%} of the loss, gradient {seen.norms[name]:.3g}" for name in on
        )
        cosines = ", ".join(f"{name} {seen.with_total[name]:.2f} with the total" for name in on)
        alt = (
            f"Left, each term's share of the loss and its gradient's share. {terms or 'Every term is off'}. Off: "
            f"{', '.join(sorted(set(state) - set(on))) or 'none'}. Loss {seen.loss:.4g}, norm of its gradient "
            f"{seen.norm:.4g}. Right, cosines between the terms' gradients and with the total gradient: {cosines}."
        )
        return term_shares(self.terms, seen, state), alt

    def redraw(self) -> None:
        super().redraw()
        try:
            LossWeights.only(**self.state)
            self.say()
        except ValueError as refusal:
            self.say(f"LossWeights rejects these weights: {refusal}")

    def train(self) -> None:
        """Train with the current weights in the background, and add the curve to those trained before it."""
        try:
            run = self._trainer(self.state, int(self.windows.value))
        except ValueError as refusal:
            self.say(f"No training: {refusal}")
            return
        self.runs = [*self.runs[1 - KEPT :], (self._name(self.state), run)]
        self.background.start(in_turn(run))

    def redraw_curve(self) -> None:
        figure, alt = self._curves()
        self.curve.value = plots.image(figure, alt)

    def still(self) -> None:
        """Show the picture for a few settings, and training with three."""
        super().still()
        settings = [LossWeights().values() | change for change in self.RUNS]
        windows = int(self.windows.value)
        self.runs = [(self._name(weights), self._trainer(weights, windows).fit()) for weights in settings]
        plots.show(*self._curves())

    def _curves(self) -> tuple[Figure, str]:
        reached = "; ".join(f"{name}: {run.history[-1]['validation']:.3f}" for name, run in self.runs if run.history)
        return weighted_runs(self.runs), f"Held-out NMSE over the windows of each training run. {reached}"

    def _trainer(self, weights: dict[str, float], windows: int) -> Trainer:
        return small_run(seed=self.seed, weights=weights, windows=windows, fresh=True, blend=BLEND)

    @staticmethod
    def _name(weights: dict[str, float]) -> str:
        defaults = LossWeights().values()
        changed = [f"{name} = {weights[name]:g}" for name in defaults if weights[name] != defaults[name]]
        return ", ".join(changed) or "defaults"
