"""What the watch keeps of a learning-rate schedule: its metric and its period."""

import ast
import re
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.optim import lr_scheduler

from covlab.watch.seen.deferred import DeferredNumber, DeferredReads
from covlab.watch.seen.location import CodeLocation

METRICS_KEPT = 256
LOSSES = re.compile(
    r"loss(es)?|err(or)?s?|m?[rm]?[sa]e|rmse|nll|bce|ce|kl|ppl|perplexity|wer|cer|fid|regret|distance|divergence"
)
SCORES = re.compile(
    r"accs?|accuracy|accuracies|top|auc|auroc|auprc|roc|m?ap|f|dice|m?iou|jaccard|bleu|rouge|psnr|ssim|precision|recall|"
    r"kappa|mcc|reward|rewards|correct"
)
UNCLEAR = re.compile(r"neg(ative)?|minus|inv(erse)?|in|wrong")  # what they do to the word after them is unclear

Meaning = Literal["loss", "score", "unknown"]


class Metric(NamedTuple):
    """What one call of a plateau schedule was given."""

    value: DeferredNumber
    loss: DeferredNumber | None  #: of the backward before


@dataclass
class WatchedSchedule:
    ref: "weakref.ref[Any]"
    name: str
    location: CodeLocation | None = None  #: of the latest call
    calls: int = 0
    mode: str = ""  #: "min" or "max", of a schedule that looks at a metric
    metrics: deque[Metric] = field(default_factory=lambda: deque(maxlen=METRICS_KEPT))
    half_period: int = 0  #: ``T_max``, of a cosine
    position: int = 0  #: of a cosine, after the latest call
    first_step: int = 0  #: of its optimizer, when it was called first
    last_step: int = 0

    def note(self, schedule: Any, arguments: tuple[Any, ...], location: CodeLocation | None, steps: int) -> None:
        """Note a call after ``steps`` steps of the optimizer."""
        self.first_step = self.first_step if self.calls else steps
        self.location, self.calls, self.last_step = location, self.calls + 1, steps
        if type(schedule) is lr_scheduler.CosineAnnealingLR:
            self.half_period = schedule.T_max
            given = arguments[0] if arguments else None
            self.position = int(given) if given is not None else schedule.last_epoch + 1

    def note_metric(self, schedule: Any, metric: object, loss: DeferredNumber | None, reads: DeferredReads) -> None:
        self.mode = schedule.mode
        if isinstance(metric, Tensor) and metric.numel() == 1:
            self.metrics.append(Metric(reads.number(metric.detach().clone().reshape(())), loss))
        elif isinstance(metric, float | int) or hasattr(metric, "__float__"):
            self.metrics.append(Metric(DeferredNumber(float(metric)), loss))


def meaning_of_metric(location: CodeLocation | None) -> Meaning:
    """Return what the call at ``location`` calls the metric that it passes to a schedule."""
    try:
        tree = ast.parse("" if location is None else location.code)
    except SyntaxError:
        return "unknown"
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and getattr(one.func, "attr", "") == "step"]
    given = [argument for call in calls for argument in (*call.args, *(one.value for one in call.keywords))]
    nodes = [node for argument in given for node in ast.walk(argument)]
    if any(isinstance(node, ast.UnaryOp | ast.BinOp) for node in nodes if not _is_index(node)):
        return "unknown"
    words = [word for node in nodes for word in _words(node)]
    if any(UNCLEAR.fullmatch(word) for word in words):
        return "unknown"
    if any(LOSSES.fullmatch(word) for word in words):
        return "loss"
    return "score" if any(SCORES.fullmatch(word) for word in words) else "unknown"


def _is_index(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)


def _words(node: ast.AST) -> list[str]:
    name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "value", None)
    if not isinstance(name, str):
        return []
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    return [word for word in re.split(r"[^a-z]+", spaced.lower()) if word]
