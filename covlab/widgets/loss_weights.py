"""What each weight of the loss does to the loss, to the gradient and to a training run."""

import math
from functools import cached_property

import ipywidgets
from matplotlib.figure import Figure

from covlab import plots
from covlab.arguments import SEED, whole_number
from covlab.course.experiments.gradient_pulls import BLEND, terms_of
from covlab.faults.small_run import small_run
from covlab.plots.loss_terms import Terms, term_shares, weighted_runs
from covlab.scenes.batch import concatenate
from covlab.training.loss import LossWeights
from covlab.training.trainer import Trainer
from covlab.widgets import Explorer
from covlab.widgets.background import KEPT, Background, Work, epoch_by_epoch, reached
from covlab.widgets.controls import NumberControl, decades

ASKS = {
    "lam_cov": "R̂ is close to R",
    "lam_cov_pred": "the network's own estimate, before the blend with the snapshots, is close to R",
    "lam_ortho": "the columns of the factor F are at right angles",
    "lam_cross": "the off-diagonal entries of R̂ are close to those of R",
    "lam_gap": "the eigenvalues of the sources stand out from the others",
    "lam_K": "the number of sources is correct",
    "lam_subspace_align": "R̂ has its power in the same directions as R",
    "lam_peak_contrast": "a beam that scans all directions finds more power at the sources than elsewhere",
    "lam_aux": "the positions of the sources are correct",
}
"""{weight: what its term asks for}"""


class LossWeightsExplorer(Explorer):
    """Nine weights: each term's share of the loss and of the gradient on one batch, and training with these weights.

    A weight only scales its term's gradient, so each gradient is computed once, on an untrained network and 120 scenes.

    Args:
        seed: of scenes and first parameters.
        windows: first value of the control for the windows to train.
    """

    title = "The weights of the loss: what each one contributes"

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
        self.train_button = ipywidgets.Button(description="Train", button_style="primary", layout={"width": "5em"})
        self.train_button.on_click(self.guarded(lambda button: self.train()))
        self.background = Background("training", self.guarded(self.redraw_curve), self.fail, self._rest)
        self.curve = ipywidgets.HTML()
        row = ipywidgets.HBox([self.train_button, self.background.row], layout={"align_items": "center"})
        self.extra, self.pictures = [self.windows.widget, row], [self.picture, self.curve]
        self._explained = self.state

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
            f"Above, each term's share of the loss and its gradient's share. {terms or 'Every term is off'}. Off: "
            f"{', '.join(sorted(set(state) - set(on))) or 'none'}. Loss {seen.loss:.4g}, norm of its gradient "
            f"{seen.norm:.4g}. Below, cosines between the terms' gradients and with the total gradient: {cosines}."
        )
        return term_shares(self.terms, seen, state), alt

    def redraw(self) -> None:
        super().redraw()
        try:
            LossWeights.only(**self.state)
            refusal = ""
        except ValueError as error:
            refusal = f"LossWeights rejects these weights: {error}"
        self.train_button.disabled, self.train_button.tooltip = bool(refusal), refusal or "Train with these weights"
        before, self._explained = self._explained, self.state
        self.say(refusal or self.explanation(before, self.state))

    def explanation(self, before: dict[str, float], after: dict[str, float]) -> str:
        """Say what the term of the weight that moved alone asks for, and what changed; nothing if several moved."""
        moved = [name for name in after if after[name] != before[name]]
        if len(moved) != 1:
            return ""
        (name,) = moved
        asks = f"{name} went from {before[name]:g} to {after[name]:g}: its term asks that {ASKS[name]}."
        if not self.terms.gram[list(after).index(name), list(after).index(name)]:
            return f"{asks} Its gradient is zero here, so the whole gradient stays the same."
        was, now = (self._pull(name, state) for state in (before, after))
        share = f"Its share of the gradients' lengths went from {was:.1%} to {now:.1%}."
        longer, angle = self.terms.compared(before, after)
        if math.isnan(angle):
            return f"{asks} {share}"
        return f"{asks} {share} The whole gradient is {longer:.3g} times as long as before, and turned by {angle:.0f}°."

    def _pull(self, name: str, state: dict[str, float]) -> float:
        """Return the share of a term's weighted gradient in the sum of all lengths."""
        norms = self.terms.weighted(state).norms
        return norms[name] / (sum(norms.values()) or 1.0)

    def train(self) -> None:
        """Train with the current weights in the background, and add the curve to those trained before it."""
        try:
            run = self._trainer(self.state, int(self.windows.value))
        except ValueError as refusal:
            self.say(f"No training: {refusal}")
            return
        self.runs = [*self.runs[1 - KEPT :], (self._name(self.state), run)]
        self.redraw_curve()
        self.background.start(epoch_by_epoch(run))

    def _rest(self) -> Work | None:
        """Return what is left of the last training."""
        run = self.runs[-1][1] if self.runs else None
        return epoch_by_epoch(run) if run and reached(run) < 1 else None

    def redraw_curve(self) -> None:
        figure, alt = self._curves()
        self.curve.value = plots.scrollable(plots.image(figure, alt))

    def _curves(self) -> tuple[Figure, str]:
        runs = [(name if reached(run) == 1 else f"{name}, {reached(run):.0%} so far", run) for name, run in self.runs]
        errors = "; ".join(f"{name}: {run.history[-1]['validation']:.3f}" for name, run in runs if run.history)
        return weighted_runs(runs), f"Held-out NMSE over the windows of each training run. {errors}"

    def _trainer(self, weights: dict[str, float], windows: int) -> Trainer:
        return small_run(seed=self.seed, weights=weights, windows=windows, fresh=True, blend=BLEND)

    @staticmethod
    def _name(weights: dict[str, float]) -> str:
        defaults = LossWeights().values()
        changed = [f"{name} = {weights[name]:g}" for name in defaults if weights[name] != defaults[name]]
        return ", ".join(changed) or "defaults"
