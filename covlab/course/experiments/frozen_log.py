"""The broken line of lesson 00. Its name stands here, because the lesson lets the reader guess it."""

from covlab.arguments import checked
from covlab.faults.case import Symptom
from covlab.training.trainer import Trainer

FAULT = "main_weight_zero"


@checked
def last_line(run: Trainer) -> str:
    """Return what ``run`` prints in its last epoch, in the form of the case's log."""
    row = run.history[-1]
    return f"epoch {row['epoch'] + 1}   train {row['train']:.6f}   val {row['validation']:.6f}"


@checked
def prints_the_log(run: Trainer) -> bool:
    """Return whether every epoch prints a train value of zero and the same validation value."""
    return Symptom(run).reproduced
