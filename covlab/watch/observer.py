"""Sits beside a training loop and writes down its calls; never changes what they do.

A *window* is what an optimizer makes one step of: the backwards since its gradients were cleared. Whatever has to
be read from a tensor stays on its device until ``Pending`` brings many of them in at once.
"""

import math
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from covlab.watch import measure, weights
from covlab.watch.aside import compiled_backward, imagined, uncompiled, unseen
from covlab.watch.conditioning import Conditioning
from covlab.watch.patches import Patches
from covlab.watch.records import Backward, Cleared, Forward, Number, Pending, Site, Step, caller
from covlab.watch.watched import Watched, gradients, versions

BLOCK = 32  # steps between two waits for the device
WHOLE_STEPS = 12  # of an optimizer, whose parameters are compared element by element
WAITING = 4096  # numbers on the device, at the most
FORWARDS = 4096  # kept of a window
SAMPLING = 8  # of how many steps a light watch measures one


class Enough(BaseException):
    """The steps that were asked for have been made. No ``except Exception`` of the script's holds it up."""


class Observer(Conditioning):
    """Everything that is patched, hooked and remembered while a loop is watched.

    Args:
        receive: gets every ``Step`` and ``Cleared``, in order, with its numbers brought in.
        light: measure one step in eight, and no inputs.
        steps: raise ``Enough`` after so many steps of one optimizer; None: never.
    """

    def __init__(self, receive: Callable[[Step | Cleared], None], light: bool = False, steps: int | None = None):
        self.receive, self.light, self.limit = receive, light, steps
        self.pending, self.events = Pending(), []
        self.optimizers: dict[int, Watched] = {}
        self.retired, self.formerly = 0, set()  # optimizers that are no more, and ids of what they held
        self.forwards: deque[Forward] = deque(maxlen=FORWARDS)
        self.inputs = measure.Inputs()
        self.roots: weakref.WeakKeyDictionary[nn.Module, measure.Root] = weakref.WeakKeyDictionary()
        self.called: set[int] = set()  # ids of modules that ran with the gradient on
        self.replacements: dict[
            tuple[Site | None, str], list
        ] = {}  # (where, what): [calls, numbers that say whether one met a non-finite value]
        self.scaler = {"disabled": 0, "used": 0}
        self.counts = {"forwards": 0, "backwards": 0, "steps": 0, "evaluations": 0, "evaluation_mode": 0}
        self.since_backward: dict[Site | None, int] = {}
        self.unevaluated: dict[
            Site | None, int
        ] = {}  # longest run of forwards in training mode without a gradient or a backward
        self.orphans: dict[str, set[str]] = {}
        self.astray: Counter[Site | None] = Counter()  # backwards that reached no parameter of an optimizer
        self.failures: dict[str, Exception] = {}
        self.blind: str | None = None  # why nothing could be seen from some time on
        self.backward: Backward | None = None
        self.depth, self.stepping, self.thread = 0, 0, threading.get_ident()
        self.patches, self.handles = Patches(), []
        self.on = False

    # ---------------------------------------------------------------- on and off

    def start(self) -> None:
        self.on = True
        patch, functions = self.patches.method, self.patches.function
        functions(torch.autograd, "backward", self._wrap_backward)
        patch(nn.Module, "__call__", self._wrap_call)
        patch(
            nn.Module,
            "zero_grad",
            self._around("clear", before=lambda module, *_, **__: self._clear(list(module.parameters()))),
        )
        optimizer = torch.optim.Optimizer
        patch(optimizer, "__init__", self._around("optimizer", after=lambda own, *_, **__: self.adopt(own)))
        patch(optimizer, "zero_grad", self._around("clear", before=lambda own, *_, **__: self._clear(optimizer=own)))
        for name in ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_"):
            if hasattr(torch.nn.utils, name):
                functions(torch.nn.utils, name, self._wrap_clip)
        scaler = torch.amp.GradScaler
        patch(scaler, "scale", self._wrap_scale)
        patch(scaler, "unscale_", self._around("scaler", before=self._unscale, after=self._unscaled))
        patch(scaler, "step", self._around("scaler", before=self._scaler_step, after=self._scaler_stepped))
        patch(scaler, "update", self._around("scaler", before=lambda *_, **__: self._scaler_update()))
        for kind in {
            kind
            for kind in vars(lr_scheduler).values()
            if isinstance(kind, type) and hasattr(kind, "step") and "step" in vars(kind)
        }:
            patch(kind, "step", self._around("schedule", before=self._schedule))
        for name in ("nan_to_num", "nan_to_num_"):
            functions(torch, name, self._around("replacement", before=self._replace))
            patch(Tensor, name, self._around("replacement", before=self._replace))
        self.handles = [
            register_optimizer_step_pre_hook(self._pre_step),
            register_optimizer_step_post_hook(self._post_step),
        ]

    def withdraw(self) -> None:
        """See nothing any more and have no hook anywhere."""
        self.on = False
        used = (handle for forward in self.forwards for handle in forward.handles)
        for handle in [
            *self.handles,
            *used,
            *(handle for watched in self.optimizers.values() for handle in watched.handles),
        ]:
            handle.remove()
        self.handles.clear()
        for watched in self.optimizers.values():
            watched.handles.clear()
            watched.before.clear()
            watched.sample = None

    def stop(self) -> None:
        """Put everything back and bring in what is still on its way."""
        self.withdraw()
        self.patches.restore()
        self.bring_in()

    def bring_in(self) -> None:
        """Wait for the device once, and hand on what happened since the last time."""
        self._guard("numbers", self.pending.bring_in)
        events, self.events = self.events, []
        for event in events:
            if isinstance(event, Step):
                watched = self.optimizers.get(event.optimizer)
                if watched is not None and event.moved is not None:
                    watched.suspect = event.moved.value == 0
                if watched is not None and event.size is not None and event.size.value is not None:
                    watched.exact = not 0 < event.size.value < math.inf
            self.receive(event)

    # ---------------------------------------------------------------- wrapping

    @unseen
    def _guard(self, part: str, function: Callable, *args, **kwargs):
        """Nothing of ours ever breaks the loop: what fails is left out from then on, and reported as not checked."""
        if part in self.failures:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the loop goes on
            self.failures[part] = error
            return None

    @uncompiled
    def _mine(self) -> bool:
        return self.on and threading.get_ident() == self.thread and not imagined()

    def _around(
        self, part: str, before: Callable | None = None, after: Callable | None = None
    ) -> Callable[[Callable], Callable]:
        def wrap(original):
            def wrapper(*args, **kwargs):
                if torch.compiler.is_compiling():
                    return original(*args, **kwargs)
                if before is not None and self._mine():
                    self._guard(part, before, *args, **kwargs)
                result = original(*args, **kwargs)
                if after is not None and self._mine():
                    self._guard(part, after, *args, **kwargs)
                return result

            return wrapper

        return wrap

    # ---------------------------------------------------------------- forwards

    def _wrap_call(self, original):
        def __call__(module, *args, **kwargs):  # noqa: N807 - it replaces nn.Module.__call__
            if torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            if self.depth or self.backward is not None or not self._mine():
                if self.on and self.depth and torch.is_grad_enabled():
                    self.called.add(id(module))
                return original(module, *args, **kwargs)
            self.depth += 1
            try:
                result = original(module, *args, **kwargs)
            finally:
                self.depth -= 1
            self._guard("forward", self._forward, module, args, kwargs, result)
            return result

        return __call__

    def _forward(self, module: nn.Module, args: tuple, kwargs: dict, result) -> None:
        root = self.roots.get(module)
        if root is None:
            root = self.roots[module] = measure.Root(module)
        if not root.parameters:
            return
        owned = root.owned(self.optimizers)
        site, learning = caller(), torch.is_grad_enabled()
        if not learning or not module.training:
            self.counts["evaluations"] += owned
            self.counts["evaluation_mode"] += owned and not module.training
            run = self.since_backward[site] = self.since_backward.get(site, 0) + 1
            if owned and not self.light and (not module.training or run > 2):  # one or two: an action, a target
                self.inputs.see(args, kwargs, self.pending, training=False)
                self._make_room()
            if not learning and owned and module.training and root.stochastic:
                self.unevaluated[site] = max(run, self.unevaluated.get(site, 0))
        if not learning:
            return
        self.called.add(id(module))
        outputs = measure.outputs(result)
        half = any(output.dtype == torch.float16 for output in outputs)
        forward = Forward(
            site,
            root.number,
            module.training,
            root.stochastic and owned,
            root.batch_statistics,
            half,
            bool(outputs),
            self.counts["backwards"],
        )
        self.counts["forwards"] += 1
        self.forwards.append(forward)
        if module.training and owned and not self.light:
            self.inputs.see(args, kwargs, self.pending, training=True, forward=forward)
        for output in outputs:
            forward.handles.append(output.grad_fn.register_prehook(self._use(forward)))

    def _use(self, forward: Forward) -> Callable:
        @unseen
        def hook(gradients):
            if self.backward is not None and self.backward.number not in forward.used:
                forward.used.append(self.backward.number)

        return hook

    # ---------------------------------------------------------------- backwards

    def _wrap_backward(self, original):
        def backward(tensors, *args, **kwargs):
            if torch.compiler.is_compiling() or not self._mine() or self.backward is not None:
                return original(tensors, *args, **kwargs)
            if compiled_backward():
                self.blind = "backwards are compiled with every hook in them (compiled autograd)"
                self.withdraw()
                return original(tensors, *args, **kwargs)
            self.counts["backwards"] += 1
            record = self.backward = Backward(self.counts["backwards"], None)
            remove = self._guard("backward", self._before_backward, record, tensors) or []
            try:
                return original(tensors, *args, **kwargs)
            finally:
                self.backward = None
                self._guard("backward", self._after_backward, record, remove)

        return backward

    def _before_backward(self, record: Backward, tensors) -> list[Callable]:
        record.site = caller()
        self.since_backward.clear()
        for watched in self.optimizers.values():
            watched.touched = False
            if watched.pending:
                if not any(
                    parameter.grad is not None for parameter in watched.parameters() if id(parameter) in watched.got
                ):
                    self._cleared(watched, None)
                elif watched.consumed and watched.carried is None:
                    watched.carried = self._size(watched)
        root = tensors if isinstance(tensors, Tensor) else tensors[0] if len(tensors) == 1 else None
        if root is None:
            return []
        if root.numel() == 1 and not root.is_complex():
            record.loss = self.pending.number(root.detach().clone())
        return weights.read(root, record, self.pending)

    def _after_backward(self, record: Backward, remove: list[Callable]) -> None:
        for take_off in remove:
            take_off()
        if self.optimizers and not any(watched.touched for watched in self.optimizers.values()):
            self.astray[record.site] += 1
        for watched in self.optimizers.values():
            if watched.touched:
                watched.touched, watched.pointers, watched.norm = False, None, None
                if watched.written is None:
                    watched.written = watched.versions()
                watched.pending.append(record)
                watched.accumulates |= len(watched.pending) - watched.taken > 1
                watched.sample, watched.factors = None, []
                watched.left = watched.first()
                scaled = record.scale is not None and watched.attempts < WHOLE_STEPS
                if (watched.accumulates or scaled) and (not self.light or watched.attempts % SAMPLING == 0):
                    watched.keep()
        self._make_room()

    # ---------------------------------------------------------------- gradients cleared

    def _clear(self, parameters: list[Tensor] | None = None, optimizer: torch.optim.Optimizer | None = None) -> None:
        site = caller()
        for watched in self.optimizers.values():
            if optimizer is None:
                held = {id(parameter) for parameter in parameters}
                meant = any(id(parameter) in held for parameter in watched.parameters())
            else:
                meant = watched.ref() is optimizer
            if meant:
                self._cleared(watched, site)

    def _cleared(self, watched: Watched, site: Site | None) -> None:
        lost = [backward for backward in watched.pending if not backward.stepped]
        unread = watched.written is None or watched.versions() == watched.written
        if lost and not watched.consumed and not watched.skipped and not self.stepping and unread:
            self.events.append(Cleared(watched.number, site, lost, self._size(watched), watched.attempts))
        watched.taken, watched.pending, watched.consumed, watched.skipped, watched.carried, watched.written = (
            0,
            [],
            False,
            False,
            None,
            None,
        )
        watched.pointers = watched.sample = None
        watched.factors = []
        watched.clips.clear()

    # ---------------------------------------------------------------- steps

    def adopt(self, optimizer: torch.optim.Optimizer) -> Watched | None:
        """Watch this optimizer too."""
        if not getattr(optimizer, "param_groups", None):
            return None
        for watched in self.optimizers.values():
            if watched.ref() is optimizer:
                watched.hook()
                return watched
        for number in [number for number, watched in self.optimizers.items() if watched.ref() is None]:
            gone = self.optimizers.pop(number)
            self.formerly |= gone.hooked
            self.retired += 1
            for handle in gone.handles:
                handle.remove()
        watched = Watched(optimizer, len(self.optimizers) + self.retired)
        self.optimizers[watched.number] = watched
        for root in self.roots.values():
            root.forget()
        return watched

    @uncompiled
    def _pre_step(self, optimizer, args, kwargs):
        if not self._mine() or self.stepping:
            return None
        self.stepping += 1
        return self._guard("step", self._before_step, optimizer, args, kwargs)

    def _before_step(self, optimizer, args, kwargs):
        watched = self.adopt(optimizer)
        if watched is None:
            return None
        watched.step, site = None, caller()
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure):
            self._open(watched, site, False)
            return None

        @wraps(closure)
        def opened(*inner, **named):
            result = closure(*inner, **named)
            if watched.step is None:
                self._guard("step", self._open, watched, site, True)
            return result

        if len(args) > 1:
            return (args[0], opened, *args[2:]), kwargs
        return args, {**kwargs, "closure": opened}

    def _open(self, watched: Watched, site: Site | None, closure: bool) -> None:
        """The gradients are complete: what the optimizer is about to take."""
        optimizer = watched.ref()
        watched.attempts += 1
        step = watched.step = Step(
            watched.number,
            watched.attempts,
            site,
            watched.pending[watched.taken :],
            list(self.forwards),
            closure=closure,
        )
        rates = [group["lr"] for group in optimizer.param_groups]
        step.rates = [self.pending.number(rate.clone()) if isinstance(rate, Tensor) else rate for rate in rates]
        found = getattr(optimizer, "found_inf", None)
        step.found_inf = self.pending.number(found.detach().clone()) if isinstance(found, Tensor) else None
        step.schedules, watched.schedules = watched.schedules, []
        if getattr(optimizer, "grad_scale", None) is not None:
            self._still_scaled(watched)
        step.clips = [(where, scale) for where, scale, certain in watched.clips if certain]
        watched.clips = []
        step.carried, step.carried_size = watched.consumed and bool(watched.pending), watched.carried
        step.measured = not self.light or watched.attempts % SAMPLING == 1
        if (
            step.backwards
            and not watched.unscaled
            and not watched.scaling
            and getattr(optimizer, "grad_scale", None) is None
        ):
            step.raw = step.backwards[-1].scale
        watched.compare(self.pending)
        step.factors, watched.factors, watched.sample = watched.factors, [], None
        step.assigned = watched.left is not None and watched.first() not in (None, watched.left)
        step.hooked = any(parameter._backward_hooks for parameter in watched.parameters())
        if step.measured:
            step.size = self._size(watched)
            half = any(forward.half for forward in step.forwards) or any(
                p.dtype == torch.float16 for p in watched.parameters()
            )
            if half and not any(backward.scale for backward in step.backwards):
                zeros, tiny = measure.underflow(gradients(watched))
                step.zeros, step.tiny = self.pending.number(zeros), self.pending.number(tiny)
            whole = watched.attempts <= WHOLE_STEPS or watched.suspect
            step.wholly = whole
            watched.before = measure.snapshot([p for p in watched.parameters() if p.grad is not None], whole)
        if watched.attempts in (2, 10, 30):
            self._look_for_orphans()
            self._describe(watched)

    @uncompiled
    def _post_step(self, optimizer, args, kwargs) -> None:
        if not self._mine() or not self.stepping:
            return
        self.stepping -= 1
        self._guard("step", self._after_step, optimizer)
        watched = next((watched for watched in self.optimizers.values() if watched.ref() is optimizer), None)
        if self.limit is not None and watched is not None and watched.attempts >= self.limit:
            raise Enough

    def _after_step(self, optimizer) -> None:
        watched = next(watched for watched in self.optimizers.values() if watched.ref() is optimizer)
        step = watched.step
        if step is None:  # a closure that was never called
            return
        if watched.before:
            step.moved = self.pending.number(measure.moved(watched.before))
            watched.before = []
        watched.consumed, watched.carried, watched.step = bool(watched.pending), None, None
        self._close(watched, step)
        del watched.pending[:-1]  # a loop may never clear: that something was taken is enough
        watched.taken = len(watched.pending)

    def _close(self, watched: Watched, step: Step) -> None:
        for backward in watched.pending:
            backward.stepped = True
        self.forwards.clear()
        self.counts["steps"] += 1
        watched.last = step
        self.events.append(step)
        self._make_room()

    def _make_room(self) -> None:
        if len(self.events) >= BLOCK or len(self.pending) > WAITING:
            self.bring_in()

    def _size(self, watched: Watched) -> Number | None:
        exact = watched.attempts <= WHOLE_STEPS or watched.exact
        norm, watched.norm = watched.norm, None
        if not exact and norm is not None and norm[1] == versions(watched):
            return self.pending.number(norm[0].clone())
        found = gradients(watched)
        return self.pending.number(measure.size(found, exact)) if found else None

    def _describe(self, watched: Watched) -> None:
        """Who is who, while the models are alive."""
        watched.trainable = {id(parameter) for parameter in watched.parameters() if parameter.requires_grad}
        watched.got |= {id(parameter) for parameter in watched.parameters() if parameter.grad is not None}
        for module in list(self.roots):
            watched.names |= {
                id(parameter): name
                for name, parameter in module.named_parameters()
                if id(parameter) in watched.trainable
            }
            parts = [part for part in module.modules() if id(part) in self.called]
            watched.ran |= {id(parameter) for part in parts for parameter in part.parameters(recurse=False)}

    def _look_for_orphans(self) -> None:
        """Parameters of models in training that get gradients, and that no optimizer holds."""
        held = self.formerly.union(
            id(parameter) for watched in self.optimizers.values() for parameter in watched.parameters()
        )
        for module in list(self.roots):
            if module.training and id(module) in self.called:
                names = {
                    name
                    for name, p in module.named_parameters()
                    if p.requires_grad and p.grad is not None and id(p) not in held
                }
                if names:
                    kept = any(id(parameter) in held for parameter in module.parameters())
                    self.orphans.setdefault(f"{type(module).__name__}{'' if kept else '*'}", set()).update(names)
