"""What to do about a window's weights where a framework, not the reader, calls backward().

The framework is the module that the reader's line calls: ``trainer.train()`` of transformers ends in Accelerate.
"""

from typing import Literal

from covlab.watch.seen.location import CodeLocation

Action = Literal["divide", "length"]

_WHOLE_WINDOWS = "give every epoch whole windows: a number of batches that is a multiple of {0}"

# {module, most specific first: {what to do: how, where {0} is the number of micro-batches per window}}
_ADVICE: dict[str, dict[Action, str]] = {
    "transformers": {
        "divide": "set model.accepts_loss_kwargs = False before the Trainer is made, so that it divides the loss by "
        "{0} itself; or return a loss that divides a sum by the num_items_in_batch that the Trainer passes",
        "length": f"{_WHOLE_WINDOWS}, with dataloader_drop_last=True",
    },
    "lightning.pytorch.core": {
        "divide": "self.manual_backward(loss / {0}): in manual optimization Lightning does not divide the loss",
        "length": "divide the loss by the number of micro-batches that the window really has before manual_backward()",
    },
    "lightning.fabric": {
        "divide": "fabric.backward(loss / {0}): Fabric does not divide the loss",
        "length": "divide the loss by the number of micro-batches that the window really has before fabric.backward()",
    },
    "lightning": {
        "divide": "return the mean loss from training_step(): Trainer(accumulate_grad_batches={0}) divides it itself",
        "length": f"{_WHOLE_WINDOWS}, by Trainer(limit_train_batches=...), or by drop_last=True in the DataLoader and "
        "a fitting number of samples",
    },
    "accelerate": {
        "divide": "use Accelerator(gradient_accumulation_steps={0}) and accelerator.accumulate(model), which divide "
        "the loss; without them, call accelerator.backward(loss / {0})",
        "length": f"{_WHOLE_WINDOWS}, by drop_last=True in the DataLoader and a fitting number of samples; or let "
        "windows span epochs: GradientAccumulationPlugin(num_steps={0}, sync_with_dataloader=False)",
    },
}
_ADVICE["pytorch_lightning.core"], _ADVICE["lightning_fabric"] = (
    _ADVICE["lightning.pytorch.core"],
    _ADVICE["lightning.fabric"],
)
_ADVICE["pytorch_lightning"] = _ADVICE["lightning"]


def framework_advice(location: CodeLocation | None, action: Action) -> str | None:
    """Return how to do it in the framework that the line calls; None if it calls none that is known."""
    called = "" if location is None or location.library is None else location.library.called
    known = (advice for module, advice in _ADVICE.items() if f"{called}.".startswith(f"{module}."))
    return next((advice[action] for advice in known), None)
