"""W23: training data comes in a new order every epoch."""

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import DataOrder

PASSES_IN_ORDER, BATCHES_OF_ONE_LABEL = 2, 4


class DataIsShuffled(Invariant):
    title = "training data comes in a new order every epoch"
    rank = 143
    needs = ("data",)

    meaning = """
        Each epoch should present the samples in another order. A DistributedSampler shuffles by the number that
        `set_epoch` gets: without this call, every epoch has the same order, and every batch the same samples.
    """
    example = """
        import torch
        from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

        x = torch.randn(96, 8)
        data = TensorDataset(x, x.sum(1, keepdim=True))
        loader = DataLoader(data, 8, sampler=DistributedSampler(data, num_replicas=2, rank=0))
        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for epoch in range(4):  # without loader.sampler.set_epoch(epoch)
            for inputs, targets in loader:
                loss = (model(inputs) - targets).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    """
    limits = """
        It knows the samplers of torch.utils.data. It does not know whether an order that you set yourself is meant;
        then it writes a note, or nothing.
    """

    fix = "call sampler.set_epoch(epoch) at the start of every epoch, before the loop over its batches"
    fix_order = "pass shuffle=True to the DataLoader of the training data"

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        for order in self.seen.data_orders:
            passes = max(order.passes.values(), default=0)
            if order.kind == "by epoch" and passes > 1:
                yield from self._by_epoch(order, passes)
            if order.kind == "in order" and passes >= PASSES_IN_ORDER and _has_one_label_a_batch(order):
                says = (
                    f"{passes} epochs trained on the same batches in the same order, and every batch has "
                    "one label only: each step unlearns the other labels"
                )
                yield self.found(order.location, "note", says, self.fix_order, number=passes, times=passes)

    def _by_epoch(self, order: DataOrder, passes: int) -> Findings:
        epochs = {epoch for _, epoch in order.passes}
        says = (
            f"{passes} epochs trained on the same batches in the same order: DistributedSampler shuffles "
            "by its epoch number, and "
        )
        if len(epochs) == 1:
            says += "set_epoch() never changed it"
            yield self.found(order.location, "fault", says, number=passes, times=passes)
        else:
            says += f"set_epoch() gave it only {counted(len(epochs), 'different value')}"
            yield self.found(order.location, "note", says, self.fix_nothing, number=passes, times=passes)


def _has_one_label_a_batch(order: DataOrder) -> bool:
    ranges = [(low.value, high.value) for low, high in order.label_ranges]
    labels = {low for low, _ in ranges}
    is_one = all(low == high for low, high in ranges)
    return order.has_labels and is_one and len(ranges) >= BATCHES_OF_ONE_LABEL and len(labels - {None}) > 1
