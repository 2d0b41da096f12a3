"""What the watch has to say: findings, and what it could not check."""

from dataclasses import asdict, dataclass, field

from covlab.watch.records import Site

VERDICTS = ("fault", "warning", "note")

TITLES = {
    "W01": "the weights of a window's losses sum to 1",
    "W02": "a step runs if and only if its gradients are finite",
    "W03": "no finite gradients are cleared without a step",
    "W04": "a step moves the parameters",
    "W05": "the schedule advances with executed steps, or with epochs",
    "W06": "clipping and steps see unscaled gradients",
    "W07": "every trainable parameter gets a gradient",
    "W08": "the optimizer holds the model's parameters",
    "W09": "the loss scale is constant within a window",
    "W10": "gradients are not all zero",
    "W11": "training forwards lead to backwards",
    "W12": "half-precision gradients have a scaler",
    "W13": "no batch statistics under accumulation",
    "W14": "the logged loss is the loss that was seen",
    "W15": "no non-finite value is replaced",
    "W16": "evaluation inputs were not trained on",
    "W17": "training trains, evaluation evaluates",
    "W18": "gradients are cleared between windows",
}
# What most likely explains a run that does not learn comes first.
ORDER = (
    "W08",
    "W11",
    "W03",
    "W10",
    "W15",
    "W02",
    "W04",
    "W06",
    "W07",
    "W17",
    "W18",
    "W09",
    "W01",
    "W05",
    "W12",
    "W16",
    "W14",
    "W13",
)
# cause -> what follows from it, and is shown under it
FOLLOWS = {
    "W08": ("W04", "W07", "W10", "W11", "W03"),
    "W11": ("W07", "W10"),
    "W03": ("W11", "W07", "W10", "W04"),
    "W10": ("W04",),
    "W15": ("W02", "W04", "W10"),
    "W02": ("W04", "W10"),
    "W06": ("W12",),
    "W07": ("W10",),
    "W17": ("W16",),
}


@dataclass
class Finding:
    """One invariant that does not hold, or that cannot be said to."""

    code: str
    verdict: str
    number: float | None
    says: str  #: what was seen, with the arithmetic that explains it
    fix: str
    site: Site | None = None
    times: int = 1
    first: int | None = None  #: step of the optimizer, from 1
    last: int | None = None
    follows: list["Finding"] = field(default_factory=list)  #: consequences

    @property
    def title(self) -> str:
        return TITLES[self.code]

    @property
    def when(self) -> str:
        if self.first is None:
            return ""
        steps = f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"
        return f"{self.times} times, {steps}" if self.times > 1 else steps

    def row(self) -> dict:
        """As plain values."""
        row = asdict(self)
        row["site"] = (
            None if self.site is None else {"file": self.site.file, "line": self.site.line, "code": self.site.code}
        )
        row["follows"] = [finding.row() for finding in self.follows]
        return {"title": self.title, **row}


def rank(findings: list[Finding]) -> list[Finding]:
    """Worst first; by what most likely explains a run that does not learn; consequences under their cause."""
    ordered = sorted(findings, key=lambda finding: (VERDICTS.index(finding.verdict), ORDER.index(finding.code)))
    shown: list[Finding] = []
    for finding in ordered:
        cause = next(
            (one for one in shown if one.verdict == "fault" and finding.code in FOLLOWS.get(one.code, ())), None
        )
        (shown if cause is None else cause.follows).append(finding)
    return shown
