"""Observe the steps of learning-rate schedules."""

from torch.optim import lr_scheduler

from covlab.watch.seen.events import ScheduleCall
from covlab.watch.seen.location import called_from, caller_location
from covlab.watch.seen.recorder import Recorder


class ScheduleObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.seen = recorder.observation

    def before_step(self, schedule: lr_scheduler.LRScheduler, *_: object, **__: object) -> None:
        location = None if called_from(lr_scheduler.__file__) else caller_location()
        watched = self.seen.find_wrapped(getattr(schedule, "optimizer", None)) if location else None
        if watched is not None:
            watched.schedule_calls.append(ScheduleCall(id(schedule), location))
