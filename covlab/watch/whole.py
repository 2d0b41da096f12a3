"""Invariants of a run as a whole: what was trained, what was forgotten, what was evaluated."""

from collections import Counter, defaultdict

from covlab.watch.finding import Finding
from covlab.watch.invariant import Invariant, Last, Span
from covlab.watch.records import Site, Step
from covlab.watch.watched import Watched
from covlab.watch.windows import RUN


def few(items: list[str], most: int = 4) -> str:
    items = sorted(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def named(watched: Watched, parameters: set[int]) -> str:
    return few([watched.names.get(one, "one of no model that was called") for one in parameters])


class AllTrained(Invariant):
    code = "W07"

    def __init__(self):
        super().__init__()
        self.steps: dict[int, int] = Last(int)
        self.empty: dict[int, int] = Last(int)  #: of these, steps that found no gradient at all

    def step(self, step: Step) -> None:
        self.empty[step.optimizer] += step.ran and step.measured and step.size is None
        self.steps[step.optimizer] += step.ran

    def finish(self, observer) -> list[Finding]:
        found = []
        for watched in observer.optimizers.values():
            steps, without = self.steps[watched.number], watched.trainable - watched.got
            if not steps or not without or not observer.counts["backwards"]:
                continue
            if without == watched.trainable:
                found += self._nothing(watched, observer.astray)
                continue
            cut = without & watched.ran
            verdict = "note" if steps < RUN else "fault" if cut else "warning"
            says = f"{len(without)} of {len(watched.trainable)} tensors never got a gradient in {steps} steps: "
            says += named(watched, without)
            says += (
                "; their modules ran, so something between them and the loss cuts the graph"
                if cut
                else "; their modules were not seen to run"
            )
            fix = (
                "look for detach(), .data, .item(), .tolist(), .numpy() or no_grad() between them and the loss"
                if cut
                else "use them, or set requires_grad=False"
            )
            found.append(Finding(self.code, verdict, len(without), says, fix, None, 1, 1, steps))
        return found

    def _nothing(self, watched: Watched, astray: Counter) -> list[Finding]:
        """Of an optimizer whose parameters no backward ever reached."""
        empty = self.empty[watched.number]
        if not empty:  # gradients were put there by hand
            return []
        says = (
            f"{empty} steps of {watched.name} found no gradient: no backward ever reached any of its "
            f"{len(watched.trainable)} tensors: {named(watched, watched.trainable)}"
        )
        site = astray.most_common(1)[0][0] if astray else watched.last.site
        if astray:
            says += f"; {astray.total()} backwards ended before any parameter"
        fix = (
            "look for detach(), .data, .item(), no_grad(), argmax() or a new tensor between the model's output and "
            "the loss"
        )
        return [
            Finding(self.code, "fault" if empty >= RUN else "note", empty, says, fix, site, empty, 1, watched.attempts)
        ]

    def unchecked(self) -> str | None:
        return None if any(self.steps.values()) else "no step was seen"


class Held(Invariant):
    code = "W08"

    def finish(self, observer) -> list[Finding]:
        found = []
        for name, missing in observer.orphans.items():
            none, model = name.endswith("*"), name.rstrip("*")
            idle = [watched for watched in observer.optimizers.values() if not watched.got and watched.attempts >= 2]
            verdict = "fault" if none and idle else "warning"
            if none and idle:
                says = f"none of the parameters that {model} trains with is in an optimizer: {few(list(missing))}"
                says += f"; {idle[0].name} holds {len(idle[0].trainable)} tensors that got no gradient"
            else:
                says = (
                    f"{len(missing)} trainable tensors of {model} get gradients and are in no optimizer: "
                    f"{few(list(missing))}"
                )
            site = next(
                (
                    step.site
                    for step in [watched.last for watched in (idle or observer.optimizers.values())]
                    if step is not None
                ),
                None,
            )
            found.append(
                Finding(
                    self.code,
                    verdict,
                    len(missing),
                    says,
                    "make the optimizer after the model is complete, from model.parameters()",
                    site,
                )
            )
        return found


class Led(Invariant):
    code = "W11"

    def __init__(self):
        super().__init__()
        self.worst: dict[Site | None, Span] = defaultdict(Span)
        self.counts: dict[Site | None, Counter[int]] = defaultdict(Counter)  #: {forwards: windows}
        self.steps = 0
        self.fed: Span = Span()  #: steps without a gradient, after forwards that could have led to one
        self.place: Site | None = None

    def step(self, step: Step) -> None:
        self.steps += 1
        idle = [forward for forward in step.forwards if forward.training and forward.visible and not forward.used]
        if idle and step.ran and step.measured and step.size is None:
            self.fed.add(step.number)
            self.place = idle[0].site
        groups: dict[tuple, list] = {}
        for forward in step.forwards:
            if forward.training:
                groups.setdefault((forward.site, forward.module), []).append(forward)
        for (site, _), forwards in groups.items():
            used = [bool(forward.used) for forward in forwards]
            if len(used) > 1 and used[-1] and not any(used[:-1]) and all(forward.visible for forward in forwards):
                self.worst[site].add(step.number)
                self.counts[site][len(used)] += 1

    def finish(self, observer) -> list[Finding]:
        found = []
        for site, windows in self.worst.items():
            n = self.counts[site].most_common(1)[0][0]
            verdict = "fault" if windows.count >= 3 and windows.count >= 0.5 * self.steps else "note"
            says = f"{n} forwards and one backward a window, on the last: {n - 1} of {n} micro-batches do not train"
            found.append(
                Finding(
                    self.code,
                    verdict,
                    n,
                    says,
                    "indent backward() into the loop over the micro-batches",
                    site,
                    windows.count,
                    windows.first,
                    windows.last,
                )
            )
        made, optimizers = observer.counts, any(watched.attempts == 0 for watched in observer.optimizers.values())
        if not made["steps"] and optimizers:
            training = [forward for forward in observer.forwards if forward.training and forward.visible]
            idle = [forward for forward in training if not forward.used]
            if len(idle) >= RUN:
                place = Counter(forward.site for forward in idle).most_common(1)[0][0]
                says = f"{made['forwards']} training forwards, {made['backwards']} backwards and no step"
                found.append(
                    Finding(
                        self.code,
                        "fault",
                        made["backwards"],
                        says,
                        "call backward() and step() in the loop itself, not in a branch that is never taken",
                        place,
                        len(idle),
                    )
                )
        if not made["backwards"] and self.fed.count >= RUN:
            says = (
                f"{self.fed.count} steps followed training forwards, and no backward came between: they found no "
                "gradient"
            )
            found.append(
                Finding(
                    self.code,
                    "fault",
                    0,
                    says,
                    "call loss.backward() before optimizer.step()",
                    self.place,
                    self.fed.count,
                    self.fed.first,
                    self.fed.last,
                )
            )
        return found

    def unchecked(self) -> str | None:
        return None


class NoBatchStatistics(Invariant):
    code = "W13"

    def __init__(self):
        super().__init__()
        self.windows, self.most, self.site = Span(), 0, None
        self.found = False

    def step(self, step: Step) -> None:
        places = Counter(backward.site for backward in step.backwards)
        if places and max(places.values()) > 1:
            used = [forward for forward in step.forwards if forward.training and forward.used]
            self.found |= any(forward.batch_statistics for forward in used)
            self.windows.add(step.number)
            self.most = self.most or max(places.values())
            self.site = self.site or (used[0].site if used else None)

    def finish(self, observer) -> list[Finding]:
        if not self.found:
            return []
        n, windows = self.most, self.windows
        says = (
            f"batch normalization takes its statistics of a micro-batch, {n} times a window: not those of the "
            "large batch"
        )
        return [
            Finding(
                self.code,
                "warning",
                n,
                says,
                "use GroupNorm or LayerNorm, or freeze the statistics",
                self.site,
                windows.count,
                windows.first,
                windows.last,
            )
        ]

    def unchecked(self) -> str | None:
        return None if self.windows.count else "no window of several backwards"


class NothingReplaced(Invariant):
    code = "W15"

    def finish(self, observer) -> list[Finding]:
        found = []
        for (site, where), (calls, numbers) in observer.replacements.items():
            met = sum(bool(number.value) for number in numbers)
            what = {
                "gradient": "gradients",
                "loss": "the loss",
                "losses": "values on their way to the loss",
                "model": "values inside the model",
            }[where]
            if met and where != "model":
                verdict = "fault" if where in ("gradient", "loss") else "warning"
                says = (
                    f"{met} of {calls} calls replaced NaN or infinity in {what}: what went wrong is hidden, and "
                    "the step is taken all the same"
                )
            elif met:
                verdict, says = "note", f"{met} of {calls} calls replaced NaN or infinity in {what}"
            elif where != "model":
                verdict, says = "note", f"{calls} calls would replace NaN or infinity in {what}; none was met"
            else:
                continue
            fix = (
                "take the replacement out, skip a step whose gradients are not finite as scaler.step(optimizer) "
                "does, and find out where they come from"
            )
            if where == "model":
                fix = "nothing, if that is what you meant"
            found.append(Finding(self.code, verdict, met, says, fix, site, calls))
        return found


class Unseen(Invariant):
    code = "W16"

    def finish(self, observer) -> list[Finding]:
        inputs = observer.inputs
        self.reason = None
        if observer.light:
            self.reason = "a light watch takes no fingerprints"
        elif inputs.unfit:
            self.reason = inputs.unfit
        elif not inputs.evaluated:
            self.reason = "no evaluation of a trained model was seen"
        elif not inputs.trained:
            self.reason = "no training input was seen"
        if self.reason:
            return []
        evaluated = {code for batch in inputs.evaluated for code in batch}
        both = inputs.met
        if not both:
            return []
        share = len(both) / len(evaluated)
        wholly = sum(all(code in both for code in batch) for batch in inputs.evaluated)
        nothing = sum(not any(code in both for code in batch) for batch in inputs.evaluated)
        says = f"{len(both)} of {len(evaluated)} evaluated samples were trained on ({share:.0%})"
        if inputs.trained <= evaluated:
            verdict, says = "note", f"{says}: the whole training set is among them, as in an overfit test"
        elif share > 0.9:
            verdict = "fault"
        elif nothing and wholly and wholly + nothing >= len(inputs.evaluated) - 1:
            verdict, says = (
                "note",
                (
                    f"{says}: {wholly} batches wholly, {nothing} not at all, as where training and validation are both "
                    "measured"
                ),
            )
        elif self._apart(inputs.places):
            verdict, says = (
                "note",
                (
                    f"{says}, all of them in one part of every evaluation, as where training and validation are both "
                    "measured"
                ),
            )
        else:
            verdict = "warning" if len(both) > 1 else "note"
        if verdict == "note":
            fix = "nothing, if that is what you meant"
        else:
            fix = (
                "evaluate samples that are kept out of training: split once, before shuffling, or seed the two "
                "sets apart"
            )
        return [Finding(self.code, verdict, share, says, fix, None, len(both))]

    @staticmethod
    def _apart(places: Counter) -> bool:
        """Is the first or the last third of every evaluation, or more, free of what was trained on?"""
        hit, last = [place for place, met in places if met], max(place for place, _ in places)
        return last > 2 and (max(hit) <= last * 2 / 3 or min(hit) > last / 3) and places.total() >= 3 * last

    def unchecked(self) -> str | None:
        return self.reason


class Modes(Invariant):
    code = "W17"

    def __init__(self):
        super().__init__()
        self.steps = 0

    def step(self, step: Step) -> None:
        self.steps += 1
        wrong = [forward for forward in step.forwards if forward.used and not forward.training and forward.stochastic]
        own = {backward.number for backward in step.backwards}
        wrong = [forward for forward in wrong if own.intersection(forward.used)]
        if wrong and not any(
            forward.training and forward.used and forward.module == wrong[0].module for forward in step.forwards
        ):
            self.at(wrong[0].site, step.number)

    def finish(self, observer) -> list[Finding]:
        found = []
        for site, at in self.places.items():
            says = (
                f"{at.count} of {self.steps} steps trained a model with dropout or batch statistics in evaluation mode"
            )
            verdict = "fault" if at.count >= 3 else "note"
            found.append(
                Finding(
                    self.code,
                    verdict,
                    at.count,
                    says,
                    "call model.train() before training goes on",
                    site,
                    at.count,
                    at.first,
                    at.last,
                )
            )
        runs = [(run, site) for site, run in observer.unevaluated.items() if run >= 3]
        if runs and not observer.counts["evaluation_mode"]:
            run, site = max(runs, key=lambda entry: entry[0])
            says = (
                f"{run} forwards in a row without gradients, in training mode: dropout or batch statistics take "
                "part in the evaluation"
            )
            found.append(
                Finding(
                    self.code,
                    "warning",
                    run,
                    says,
                    "call model.eval() before evaluating, model.train() after",
                    site,
                    run,
                )
            )
        return found

    def unchecked(self) -> str | None:
        return None if self.steps else "no step was seen"
