"""Run the watch's own code so that it never breaks the loop, and deliver the events it records."""

import math
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from covlab.watch.seen.deferred import DeferredReads, value_of
from covlab.watch.seen.events import Backward, Event, Step
from covlab.watch.seen.isolation import has_no_values, hidden_from_torch, skipped_by_compiler
from covlab.watch.seen.location import caller_location
from covlab.watch.seen.observation import Observation, Part
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.step_limit import StepLimit

EVENTS_PER_FLUSH = 32  # between two waits for the device
NUMBERS_WAITING = 4096  # on the device, at most

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


class Recorder:
    """What all observers share: the observation, deferred numbers, events, and the guard around their code."""

    def __init__(self, receive: Callable[[Event], None], light: bool, steps: int | None) -> None:
        self.receive = receive
        self.observation = Observation(light)
        self.limit = StepLimit(steps)
        self.reads = DeferredReads()
        self.events: list[Event] = []
        self.active = False
        self.thread, self.thread_trains = threading.get_ident(), False  # the one that is watched
        self.own_code_in: int | None = None  # the thread that runs code of the watch, whose calls are not the loop's
        self._older_threads = {thread.ident for thread in threading.enumerate()}
        self.before_backward: Callable[[], None] = lambda: None
        self.calls_running = self.steps_running = 0  # depth of nested calls of models, and of nested optimizer steps
        self.backward_running: Backward | None = None
        # what other observers do before and after each step, and at the end
        self.before_steps: list[tuple[Part, Callable[[WatchedOptimizer, Step], None]]] = []
        self.after_steps: list[tuple[Part, Callable[[WatchedOptimizer], None]]] = []
        self.at_end: list[tuple[Part, Callable[[], None]]] = []

    @skipped_by_compiler
    def is_watching(self, is_backward: bool = False) -> bool:
        """Return whether the running code belongs to the watched loop and its tensors have values."""
        if not self.active or self.own_code_in == threading.get_ident():
            return False
        if threading.get_ident() != self.thread and not self._move_to_thread(is_backward):
            return False
        self.thread_trains |= is_backward
        return not has_no_values()

    @skipped_by_compiler
    def _move_to_thread(self, is_backward: bool) -> bool:
        """Watch this thread from now on, if it is new and the watched one does not train, or has ended."""
        thread = threading.get_ident()
        if self.backward_running is not None or self.calls_running or self.steps_running or not torch.is_grad_enabled():
            return False  # the watched thread has asked this one for a part of its work
        if thread in self._older_threads:
            return False
        if self.thread_trains and any(other.ident == self.thread for other in threading.enumerate()):
            if is_backward:
                self.observation.backwards_elsewhere[caller_location()] += 1
            return False
        self.thread, self.thread_trains = thread, False
        return True

    @hidden_from_torch
    def guard(self, part: Part, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call ``function`` and return its result. If it fails, stop observing this part, and let the loop continue."""
        failures = self.observation.failures
        if part in failures:
            return None
        outer, self.own_code_in = self.own_code_in, threading.get_ident()
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the loop continues
            failures[part] = error
            return None
        finally:
            self.own_code_in = outer

    def around(self, part: Part, before: Function | None = None, after: Function | None = None) -> Decorator:
        """Return a decorator that also calls ``before`` and ``after``; ``after`` gets the ``result`` as well."""

        def wrap(original: Function) -> Function:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if torch.compiler.is_compiling():
                    return original(*args, **kwargs)
                if before is not None and self.is_watching():
                    self.guard(part, before, *args, **kwargs)
                result = original(*args, **kwargs)
                if after is not None and self.is_watching():
                    self.guard(part, after, *args, result=result, **kwargs)
                return result

            return wrapper

        return wrap

    def flush_if_full(self) -> None:
        if len(self.events) >= EVENTS_PER_FLUSH or len(self.reads) > NUMBERS_WAITING:
            self.flush()

    def flush(self) -> None:
        """Wait for the device once, and deliver the events since the last flush."""
        self.guard("numbers", self.reads.flush)
        if self.reads.failure_of_vectors is not None:
            self.observation.failures["inputs"] = self.reads.failure_of_vectors
        events, self.events = self.events, []
        for event in events:
            watched = self.observation.optimizers.get(event.optimizer)
            if isinstance(event, Step) and watched is not None:
                size = value_of(event.gradient_size)
                if size is not None:
                    watched.measure_exactly = not 0 < size < math.inf
            self.receive(event)
