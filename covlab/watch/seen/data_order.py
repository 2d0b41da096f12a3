"""Observe in which order a loop trains on its data: DataLoaders, and samplers that shuffle by epoch."""

import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor
from torch.utils.data import DistributedSampler, SequentialSampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from covlab.watch.seen.events import Step
from covlab.watch.seen.location import caller_location
from covlab.watch.seen.observation import DataOrder
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.patches import Patches
from covlab.watch.seen.recorder import Recorder

SAMPLERS_WITHIN = 5  # one within the other
BATCHES_TO_TRAIN = 2  # of one pass: a batch that a loop only looks at is no pass of training
LABELS_READ = 256  # batches per sampler
ORDERS_KEPT = 256


@dataclass(eq=False)
class _Pass:
    """One iteration over a sampler."""

    order: DataOrder
    epoch: int
    batches: Counter[int] = field(default_factory=Counter)  #: {optimizer: batches that it trained on}


class DataOrderObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self._current: weakref.WeakKeyDictionary[Any, _Pass] = weakref.WeakKeyDictionary()  # by sampler
        self._iterators: weakref.WeakKeyDictionary[Any, _Pass] = weakref.WeakKeyDictionary()
        # by data set, or by sampler, and by kind
        self._orders: weakref.WeakKeyDictionary[Any, dict[str, DataOrder]] = weakref.WeakKeyDictionary()
        self._waiting: dict[_Pass, None] = {}  # passes that gave a batch since the last step or evaluation
        self._evaluations = 0  # before those batches
        self._has_stepped = False
        recorder.before_steps.append(("data", self._before_step))

    def patch(self, patches: Patches) -> None:
        around = self.recorder.around
        patches.method(DistributedSampler, "__iter__", around("data", before=self._before_iteration))
        patches.method(_BaseDataLoaderIter, "__next__", around("data", after=self._after_batch))

    def _order_of(self, sampler: Any, data: object, kind: Literal["by epoch", "in order"]) -> DataOrder:
        """Return the order of the data that a sampler is for: loops make new samplers of the same data."""
        owner = data if type(data).__weakrefoffset__ and type(data).__hash__ is object.__hash__ else sampler
        orders = self._orders.setdefault(owner, {})
        if kind not in orders:
            orders[kind] = DataOrder(caller_location(), kind)
            if len(self.seen.data_orders) < ORDERS_KEPT:
                self.seen.data_orders.append(orders[kind])
        return orders[kind]

    def _before_iteration(self, sampler: DistributedSampler[Any]) -> None:
        is_library = type(sampler).__module__.partition(".")[0] in ("lightning", "pytorch_lightning")
        if sampler.shuffle and (type(sampler).__iter__ is DistributedSampler.__iter__ or is_library):
            order = self._order_of(sampler, sampler.dataset, "by epoch")
            self._current[sampler] = _Pass(order, sampler.seed + sampler.epoch)

    def _after_batch(self, iterator: Any, *, result: object) -> None:
        found = self._iterators.get(iterator)
        if found is None:
            found = self._pass_of(iterator)
            if found is None:
                return
            self._iterators[iterator] = found
        # a batch is not trained on if a model was only evaluated before the next batch came
        if self._has_stepped or self._evaluations != self.seen.calls_without_training:
            self._waiting.clear()
        self._has_stepped, self._evaluations = False, self.seen.calls_without_training
        self._waiting[found] = None
        if found.order.kind == "in order":
            self._note_labels(found.order, result)

    def _pass_of(self, iterator: Any) -> _Pass | None:
        sampler = iterator._index_sampler
        for _ in range(SAMPLERS_WITHIN):
            if sampler is None:
                return None
            if sampler in self._current:
                return self._current[sampler]
            if type(sampler) is SequentialSampler:
                return _Pass(self._order_of(sampler, sampler.data_source, "in order"), 0)
            sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
        return None

    def _before_step(self, watched: WatchedOptimizer, step: Step) -> None:
        self._has_stepped = True
        for one in self._waiting:
            one.batches[watched.number] += 1
            if one.batches[watched.number] == BATCHES_TO_TRAIN:
                one.order.passes[watched.number, one.epoch] += 1

    def _note_labels(self, order: DataOrder, batch: object) -> None:
        """Note whether a batch has one label only."""
        labels = batch[-1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
        if isinstance(batch, dict):
            labels = next(
                (batch[name] for name in ("labels", "label", "targets", "target", "y") if name in batch), None
            )
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.numel() != len(labels):
            order.has_labels = False
        elif len(order.label_ranges) < LABELS_READ and labels.numel() > 1:
            reads = self.recorder.reads
            order.label_ranges.append((reads.number(labels.min()), reads.number(labels.max())))
