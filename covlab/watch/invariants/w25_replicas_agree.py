"""W25: the replicas of a model agree."""

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import Observation
from covlab.watch.seen.replicas import Comparison, Difference


class ReplicasAgree(Invariant):
    title = "the replicas of a model agree on all ranks"
    rank = 25
    is_about_the_job = True
    needs = ("replicas",)
    nothing_to_check = "the run has one rank"

    fix = "call the DistributedDataParallel itself, as ddp(x): only its own call averages gradients over the ranks"
    fix_step = (
        "look for what differs between the ranks: a backward in ddp.no_sync() before every step, a step or a change of "
        "parameters on one rank alone, or, after the DistributedDataParallel was made, a new parameter or a checkpoint "
        "that one rank loads"
    )
    fix_alone = "wrap the model in DistributedDataParallel, if the ranks are meant to train one model"
    fix_averaged = "nothing, if the ranks are averaged at times on purpose"

    meaning = """
        Under DistributedDataParallel, every rank has a copy of the model, and all copies take the same steps. If
        the gradients are not averaged, each rank trains a model of its own on its share of the data, and usually only
        that of rank 0 is saved.
    """
    example = """
        import torch
        import torch.distributed
        import torch.nn.functional as F

        torch.distributed.init_process_group("gloo")
        torch.manual_seed(torch.distributed.get_rank())
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = F.cross_entropy(model.module(x), x[:, :4].argmax(1))  # not model(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    ranks = 2
    limits = """
        Every rank writes checksums of its parameters into a file, at each of the first 16 steps and then at fewer. At
        the end, rank 0 compares the files, so the watch cannot make a job wait. Ranks on other machines are not
        compared, nor parameters that FSDP or DeepSpeed shard. In a job of one rank, only the calls are judged, and only
        if nothing else communicates between steps, such as an all-reduce of the gradients. If ranks are averaged now
        and then on purpose, and never at a step that is compared, the report is wrong.
    """

    def on_step(self, step: Step) -> None:
        used = [forward for forward in step.forwards if forward.used_by]
        inside = [forward for forward in used if forward.parallel == "inside"]
        if inside and not any(forward.parallel == "whole" for forward in used):
            self.violations[inside[0].location].add(step.number)

    def find(self) -> Findings:
        replicas = self.seen.replicas
        if replicas.ranks == 1 and not replicas.communicates:
            yield from self._judge_one_rank()
        self.checked = 0 if replicas.sharded else replicas.ranks - 1
        if replicas.rank or not self.checked:
            return  # rank 0 tells for the whole job
        comparison = replicas.compare()
        self.checked = 0 if comparison is None else comparison.points
        differences = [] if comparison is None else comparison.differences
        for at in self.violations.values():
            says = self._direct_calls(at)
            if differences:
                yield self.found(at, "fault", f"{says}; {self._where(differences[0])}", number=at.count)
            elif comparison is None:
                yield self.found(at, "warning", f"{says}; no other rank could be compared", number=at.count)
        if not self.violations and comparison is not None:
            for difference in differences:
                yield from self._judge(difference, comparison)

    def _judge_one_rank(self) -> Findings:
        for at in self.violations.values():
            says = f"{self._direct_calls(at)}; on more ranks than this one, each would train a model of its own"
            yield self.found(at, "fault", says, number=at.count)

    @staticmethod
    def _direct_calls(at: Occurrences) -> str:
        return (
            f"a module within a DistributedDataParallel was called directly in {counted(at.count, 'step')}, and the "
            "DistributedDataParallel itself was not: DDP does not average the gradients of such a call"
        )

    def _judge(self, difference: Difference, comparison: Comparison) -> Findings:
        replicas, watched = self.seen.replicas, self.seen.optimizers.get(difference.optimizer)
        location = None if watched is None or watched.last_step is None else watched.last_step.location
        where, synchronized = self._where(difference), replicas.synchronized.get(difference.optimizer, set())
        if difference.agrees_later:
            yield self.found(location, "note", f"{where}; later they agree again", self.fix_averaged, number=None)
        elif not synchronized.isdisjoint(difference.tensors):
            says = f"{where}, although a DistributedDataParallel holds them"
            yield self.found(location, "fault", says, self.fix_step, number=difference.step)
        elif difference.agreed_before:
            says = f"{where}: every rank trains a model of its own"
            yield self.found(location, "note", says, self.fix_alone, number=difference.step)

    def _where(self, difference: Difference) -> str:
        """Return which tensors first differ, before which step, and on which ranks."""
        watched = self.seen.optimizers.get(difference.optimizer)
        parameters, names = [] if watched is None else watched.parameters(), []
        for i in difference.tensors:
            name = watched.parameter_names.get(id(parameters[i])) if watched and i < len(parameters) else None
            names.append(f"tensor {i}" if name is None else name.removeprefix("module."))
        ranks = ", ".join(map(str, difference.ranks[:8]))
        when = f"after step {difference.step - 1}" if difference.step > 1 else "before the first step"
        return f"the parameters of rank 0 and rank {ranks} differ {when}: {first_few(names)}"

    def unchecked(self, seen: Observation) -> str | None:
        if seen.replicas.sharded:
            return "the parameters are sharded"
        alone = seen.replicas.ranks > 1 and not self.checked
        return "no step of another rank could be compared" if alone else super().unchecked(seen)
