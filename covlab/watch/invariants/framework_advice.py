"""What to do where a framework, not the reader, calls backward(), step() and what belongs to them.

The framework is the module that the reader's line calls: ``trainer.train()`` of transformers ends in Accelerate.
"""

from typing import Literal

from covlab.watch.seen.location import CodeLocation

Action = Literal[
    "divide", "length", "skip", "warm up", "precision", "schedule", "step scaled", "clip", "checkpoint", "optimizer",
    "step", "scale", "train", "step once", "whole windows",
]  # fmt: skip

_WHOLE_WINDOWS = "give every epoch whole windows: a number of batches that is a multiple of {0}"

# {module, most specific first: {what to do: how, where {0} is the number of micro-batches per window}}
_ADVICE: dict[str, dict[Action, str]] = {
    "transformers": {
        "divide": "set model.accepts_loss_kwargs = False before the Trainer is made, so that it divides the loss by "
        "{0} itself; or return a loss that divides a sum by the num_items_in_batch that the Trainer passes",
        "length": f"{_WHOLE_WINDOWS}, with dataloader_drop_last=True",
        "skip": "set bf16=True in TrainingArguments, or fp16=True, whose scaler skips such steps; "
        'debug="underflow_overflow" names the module with the first NaN or infinity',
        "warm up": "nothing: every warm-up of transformers starts at 0, and warmup_steps in TrainingArguments sets its "
        "length",
        "precision": "load the model in float32 (dtype=torch.float32 in from_pretrained), with bf16=True in "
        "TrainingArguments; or raise learning_rate",
        "schedule": "pass the schedule as Trainer(optimizers=(optimizer, schedule)), and do not step it yourself: the "
        "Trainer steps it once per optimizer step",
        "step scaled": "leave the step to the Trainer, and remove the one in your callback or training_step()",
        "clip": "set max_grad_norm in TrainingArguments, and do not clip in a callback or in training_step(): the "
        "Trainer unscales the gradients before it clips",
        "checkpoint": 'set gradient_checkpointing_kwargs={"use_reentrant": False} in TrainingArguments, or call '
        "model.enable_input_require_grads()",
        "optimizer": "finish the model before you make the Trainer, or pass it your own optimizer: "
        "Trainer(optimizers=(optimizer, None))",
        "step": "set gradient_accumulation_steps in TrainingArguments to at most the number of batches in an epoch",
        "scale": "load the model in float32 (dtype=torch.float32 in from_pretrained), and set fp16=True or bf16=True "
        "in TrainingArguments: the Trainer then scales the loss where that is needed",
        "train": "remove model.eval() from your callback or from training_step(), or call model.train() after it",
        "step once": "remove the optimizer's step() from your callback or training_step(): the Trainer makes it",
    },
    "lightning.pytorch.core": {
        "divide": "self.manual_backward(loss / {0}): in manual optimization Lightning does not divide the loss",
        "length": "divide the loss by the number of micro-batches that the window really has before manual_backward()",
        "schedule": "call self.lr_schedulers().step() once per step of the optimizer",
        "step scaled": "step what self.optimizers() returns: it goes through the scaler",
        "clip": 'call self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm") in '
        "on_before_optimizer_step(), where the gradients are unscaled",
        "step": "call self.optimizers().step() after the last manual_backward() of every window, or leave "
        "automatic_optimization as True",
        "step once": "step what self.optimizers() returns, once per window",
    },
    "lightning.fabric": {
        "divide": "fabric.backward(loss / {0}): Fabric does not divide the loss",
        "length": "divide the loss by the number of micro-batches that the window really has before fabric.backward()",
        "skip": 'use Fabric(precision="16-mixed"), whose scaler skips such steps, or step only if the norm of the '
        "gradients is finite",
        "precision": 'use Fabric(precision="bf16-mixed") instead of "bf16-true", or raise the learning rate',
        "step scaled": "step the optimizer that fabric.setup(model, optimizer) returns",
        "clip": "call fabric.clip_gradients(model, optimizer, max_norm=1.0), which unscales the gradients first",
        "scale": 'use Fabric(precision="16-mixed") or "bf16-mixed", fabric.backward(loss), and the optimizer that '
        "fabric.setup() returns",
        "step once": "step only the optimizer that fabric.setup(model, optimizer) returns, once per window",
    },
    "lightning": {
        "divide": "return the mean loss from training_step(): Trainer(accumulate_grad_batches={0}) divides it itself",
        "length": f"{_WHOLE_WINDOWS}, by Trainer(limit_train_batches=...), or by drop_last=True in the DataLoader and "
        "a fitting number of samples",
        "skip": 'set Trainer(precision="16-mixed"), whose scaler skips such steps; Trainer(detect_anomaly=True) finds '
        "the first NaN",
        "warm up": "start the warm-up in configure_optimizers() at a factor of 1/steps, not 0",
        "precision": 'set Trainer(precision="bf16-mixed") instead of "bf16-true", or raise the learning rate',
        "schedule": 'return {"scheduler": schedule, "interval": "step"} or "epoch" as the lr_scheduler of '
        "configure_optimizers(), and do not step it yourself",
        "step scaled": "leave the step to Lightning, and remove the one in your hook or callback",
        "clip": "set Trainer(gradient_clip_val=1.0) instead of clipping in a hook: Lightning unscales the gradients "
        "before it clips",
        "checkpoint": "pass use_reentrant=False to checkpoint, or call requires_grad_() on its first input",
        "optimizer": "make the optimizer in configure_optimizers() from self.parameters(), and the layers in "
        "__init__() or configure_model()",
        "step": "set Trainer(accumulate_grad_batches=...) to at most the number of batches in an epoch",
        "scale": 'set Trainer(precision="16-mixed") or "bf16-mixed": Lightning then scales the loss where that is '
        "needed",
        "train": "call train() on the module in on_train_epoch_start(): Lightning keeps the mode that a module has, "
        "and from_pretrained() returns models in evaluation mode",
        "step once": "remove the optimizer's step() from your hook or callback: Lightning makes it",
    },
    "accelerate": {
        "divide": "use Accelerator(gradient_accumulation_steps={0}) and accelerator.accumulate(model), which divide "
        "the loss; without them, call accelerator.backward(loss / {0})",
        "length": f"{_WHOLE_WINDOWS}, by drop_last=True in the DataLoader and a fitting number of samples; or let "
        "windows span epochs: GradientAccumulationPlugin(num_steps={0}, sync_with_dataloader=False)",
        "skip": 'use Accelerator(mixed_precision="fp16"), whose scaler skips such steps, or step only if the norm of '
        "the gradients is finite",
        "precision": 'keep the model in float32, and use Accelerator(mixed_precision="bf16"); or raise the '
        "learning rate",
        "schedule": "pass the schedule to accelerator.prepare(), and call its step() once in every accumulate() block: "
        "it then waits for the steps of the optimizer",
        "step scaled": "step the optimizer that accelerator.prepare() returns: it goes through the scaler",
        "clip": "call accelerator.clip_grad_norm_(model.parameters(), 1.0) if accelerator.sync_gradients: it unscales "
        "the gradients first",
        "step": "call step() of the prepared optimizer in every accumulate() block: it runs at the end of each window",
        "scale": 'use Accelerator(mixed_precision="fp16") or "bf16", accelerator.backward(loss), and the optimizer '
        "that accelerator.prepare() returns",
        "step once": "step only the optimizer that accelerator.prepare() returns, once per accumulate() block",
    },
    "fastai": {
        "skip": "call learn.to_fp16(), whose scaler skips such steps, or lower the learning rate",
        "precision": "keep the model in float32, and call learn.to_fp16() or learn.to_bf16(); or raise the "
        "learning rate",
        "step scaled": "leave the step to the Learner, and remove the one in your callback",
        "clip": "add the callback GradientClip(1.0) to the Learner instead of clipping in one of your own",
        "optimizer": "finish the model before you make the Learner, or call learn.create_opt() after a change; if "
        "layers are frozen, call learn.unfreeze()",
        "scale": "keep the model in float32, and call learn.to_fp16()",
        "train": "call learn.model.train() in before_train() of your callback",
        "step once": "remove the optimizer's step() from your callback: the Learner makes it",
    },
}
_ADVICE["lightning.pytorch.core"] = _ADVICE["lightning"] | _ADVICE["lightning.pytorch.core"]
for _name in ("transformers", "lightning", "accelerate"):
    _ADVICE[_name]["whole windows"] = _ADVICE[_name]["length"]
_ADVICE["pytorch_lightning.core"], _ADVICE["lightning_fabric"] = (
    _ADVICE["lightning.pytorch.core"],
    _ADVICE["lightning.fabric"],
)
_ADVICE["pytorch_lightning"] = _ADVICE["lightning"]


def framework_advice(location: CodeLocation | None, action: Action) -> str | None:
    """Return how to do it in the framework that the line calls; None if it calls none that is known."""
    called = "" if location is None or location.library is None else location.library.called
    known = (advice for module, advice in _ADVICE.items() if f"{called}.".startswith(f"{module}."))
    return next((advice.get(action) for advice in known), None)


_FRAMEWORKS = {
    "transformers": "transformers",
    "lightning": "Lightning",
    "lightning.pytorch.core": "Lightning, manual optimization",
    "lightning.fabric": "Fabric",
    "accelerate": "Accelerate",
    "fastai": "fastai",
}


def advice_by_framework(action: Action) -> dict[str, str]:
    """Return {framework: how to do it there}, where {0} is the number of micro-batches per window."""
    return {name: _ADVICE[module][action] for module, name in _FRAMEWORKS.items() if action in _ADVICE[module]}
