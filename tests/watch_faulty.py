"""Textbook loops with one bug each, none of which raises an exception.

``FAULTY`` {name: (loop, invariant, verdict)}: what must be found, or None if no step shows the bug. A name that is also
in ``covlab faults`` is the same bug. A loop takes ``log`` and calls it with what it prints as its training loss.
"""

# mypy: no-strict-optional, disable-error-code="index"
# A textbook loop does not ask whether a gradient is None, and one of these looks up a verdict under a wrong key.

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from watch_healthy import batches, network

Log = Callable[[float], object]
Loop = Callable[..., None]
FAULTY: dict[str, tuple[Loop, str | None, str]] = {}


def faulty(invariant: str | None = None, verdict: str = "fault") -> Callable[[Loop], Loop]:
    def register(function: Loop) -> Loop:
        FAULTY[function.__name__] = (function, invariant, verdict)
        return function

    return register


def adamw(model: nn.Module, rate: float = 1e-2) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=rate)


@faulty("W01")
def missing_division(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for _ in range(3):
        for number, (x, y) in enumerate(batches(16), 1):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


@faulty("W01")
def division_in_debug_block(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for epoch in range(3):
        for number, (x, y) in enumerate(batches(16)):
            loss = F.cross_entropy(model(x), y)
            if epoch == 0 and number == 0:
                loss = loss / 4
            loss.backward()
            if (number + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


@faulty("W01")
def short_window_by_full_count(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for _ in range(3):
        data = batches(15)
        for number, (x, y) in enumerate(data, 1):
            (F.cross_entropy(model(x), y) / 4).backward()
            if number % 4 == 0 or number == len(data):
                optimizer.step()
                optimizer.zero_grad()


@faulty("W11")
def nested_in_debug_block(log: Log = print) -> None:
    model, debug = network(), False
    optimizer = adamw(model)
    for _ in range(3):
        for x, y in batches(16):
            loss = F.cross_entropy(model(x), y)
            if debug:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    log(0.0)


@faulty("W11")
def last_batch_only(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for _ in range(12):
        for x, y in batches(4):
            loss = F.cross_entropy(model(x), y) / 4
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@faulty("W14")
def running_sum_in_step_branch(log: Log = print) -> None:
    """The epoch's mean counts the last micro-batch of each window alone, over the number of micro-batches."""
    model = network()
    optimizer = adamw(model)
    for _ in range(3):
        running = 0.0
        data = batches(16)
        for number, (x, y) in enumerate(data, 1):
            loss = F.cross_entropy(model(x), y)
            (loss / 4).backward()
            if number % 4 == 0:
                running += loss.item()
                optimizer.step()
                optimizer.zero_grad()
        log(running / len(data))


@faulty("W03")
def gate_wants_every_group(log: Log = print) -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = adamw(model)
    for x, y in batches(16):
        F.cross_entropy(model(x), y).backward()
        norms = [
            sum(p.grad.norm().item() for p in part.parameters() if p.grad is not None) for part in (model[0], model[3])
        ]
        if all(math.isfinite(norm) and norm > 0 for norm in norms):
            optimizer.step()
        optimizer.zero_grad()


@faulty("W05")
def schedule_per_micro_batch(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for number, (x, y) in enumerate(batches(48), 1):
        (F.cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()


@faulty()
def schedule_per_epoch(log: Log = print) -> None:
    """A warm-up of twelve steps that takes twelve epochs: the calls are those of any schedule by epochs."""
    model = network()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 12, total_iters=12)
    for _ in range(4):
        for x, y in batches(4):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        schedule.step()


@faulty("W04", "note")
def warmup_from_zero(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()


def half(
    before: Callable[[nn.Module], None] | None = None,
    unscaled: Callable[[nn.Module], None] | None = None,
    clip_early: bool = False,
    advance: bool = False,
    scale: float = 2.0**24,
    update_always: bool = False,
) -> None:
    """Mixed precision; each argument switches on one bug."""
    model = network()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / 10))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    for number, (x, y) in enumerate(batches(40), 1):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss / 2).backward()
        if update_always:
            scaler.update(scaler.get_scale() * 1.01)
        if number % 2:
            continue
        if before:
            before(model)
        if clip_early:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.unscale_(optimizer)
        if unscaled:
            unscaled(model)
        if not clip_early:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        if advance:
            schedule.step()
        optimizer.zero_grad()


def sanitize(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            torch.nan_to_num_(parameter.grad, nan=0.0, posinf=1.0, neginf=-1.0)


@faulty("W05")
def schedule_on_skipped_step(log: Log = print) -> None:
    half(advance=True)


@faulty("W15")
def sanitize_before_unscale(log: Log = print) -> None:
    half(before=sanitize)


@faulty("W15")
def sanitize_after_unscale(log: Log = print) -> None:
    half(unscaled=sanitize)


@faulty("W06")
def clip_before_unscale(log: Log = print) -> None:
    half(clip_early=True, scale=2.0**10)


@faulty("W09")
def scale_updated_inside_window(log: Log = print) -> None:
    half(update_always=True, scale=2.0**10)


@faulty("W15")
def sanitize_without_scaler(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for number, (x, y) in enumerate(batches(20)):
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) * (math.inf if number % 5 == 4 else 1)).backward()
        for parameter in model.parameters():
            parameter.grad = torch.nan_to_num(parameter.grad, nan=0.0, posinf=1.0, neginf=-1.0)
        optimizer.step()


@faulty("W15")
def nan_loss_sanitized(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for number, (x, y) in enumerate(batches(20)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y) * (math.nan if number % 5 == 4 else 1)
        loss = torch.nan_to_num(loss, nan=0.0)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()


@faulty("W02")
def overflow_probe_wrong_key(log: Log = print) -> None:
    """The scaler's overflow flag is looked up under a wrong key, so every step seems fine."""
    model = network()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    for x, y in batches(16):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        found = scaler._per_optimizer_states[optimizer]["found_inf_per_device"]
        if sum(found.values()) == 0:
            optimizer.step()
        scaler.update()
        optimizer.zero_grad()


@faulty("W10")
def main_weight_zero(log: Log = print) -> None:
    model, weights = network(), {"lam_cov": 1.0}
    optimizer = adamw(model)
    for x, y in batches(14):
        optimizer.zero_grad()
        (weights.get("lambda_cov", 0.0) * F.cross_entropy(model(x), y)).backward()
        optimizer.step()


@faulty("W02")
def gradient_through_singular_vectors(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for x, _ in batches(14):
        optimizer.zero_grad()
        out = model(x)
        vectors, _, _ = torch.linalg.svd(out.mT @ out * 0 + torch.eye(4))
        vectors.square()[:, 0].sum().backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
            optimizer.step()


@faulty("W16")
def validation_in_training(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    training = batches(16)
    for _ in range(2):
        for x, y in training:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            sum(F.cross_entropy(model(x), y) for x, y in training[3:7])
        model.train()


@faulty()
def loss_inside_autocast(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for x, y in batches(16):
        with torch.autocast("cpu", torch.float16):
            out = model(x).float()
            loss = (out @ out.mT / 4).square().mean() + F.cross_entropy(out, y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


@faulty()
def swallowed_exception(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        out = model(x)
        loss = F.cross_entropy(out, y)
        try:
            loss = loss + 0.1 * out.square.mean()
        except Exception:
            pass
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# Bugs of textbook loops that `covlab faults` does not have.


@faulty("W03")
def cleared_inside_window(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for number, (x, y) in enumerate(batches(48), 1):
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()


@faulty("W03")
def leftover_dropped(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for _ in range(4):
        optimizer.zero_grad()
        for number, (x, y) in enumerate(batches(15), 1):
            (F.cross_entropy(model(x), y) / 4).backward()
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


@faulty("W18")
def never_cleared(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@faulty("W08")
def stale_optimizer(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    model = network(seed=1)
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        model.zero_grad()


@faulty("W08", "warning")
def head_forgotten(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model[0])
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@faulty("W07")
def cut_graph(log: Log = print) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = network(), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tensor(self.backbone(x).tolist()))

    model = Cut()
    optimizer = adamw(model)
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@faulty("W17")
def stays_in_evaluation_mode(log: Log = print) -> None:
    model = network(dropout=0.5)
    optimizer = adamw(model)
    held_out = batches(2, seed=9)
    for _ in range(3):
        for x, y in batches(6):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            sum(F.cross_entropy(model(x), y) for x, y in held_out)


@faulty("W17", "warning")
def evaluates_in_training_mode(log: Log = print) -> None:
    model = network(dropout=0.5)
    optimizer = adamw(model)
    held_out = batches(4, seed=9)
    for _ in range(3):
        for x, y in batches(6):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            sum(F.cross_entropy(model(x), y) for x, y in held_out)


@faulty("W04")
def rate_of_zero(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // 100)
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()


@faulty("W12")
def half_without_scaler(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        with torch.autocast("cpu", torch.float16):
            out = model(x)
        optimizer.zero_grad()
        (F.cross_entropy(out, y) * 1e-6).backward()
        optimizer.step()


@faulty("W13", "warning")
def batch_statistics_accumulated(log: Log = print) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = adamw(model)
    for number, (x, y) in enumerate(batches(48), 1):
        (F.cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


@faulty("W07")
def detached_output(log: Log = print) -> None:
    """The loss is made to require a gradient, which silences PyTorch's error."""
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        optimizer.zero_grad()
        out = model(x).detach().requires_grad_()
        F.cross_entropy(out, y).backward()
        optimizer.step()


@faulty("W07")
def loss_made_anew(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        optimizer.zero_grad()
        loss = torch.tensor(F.cross_entropy(model(x), y).item(), requires_grad=True)
        loss.backward()
        optimizer.step()


@faulty("W07")
def generator_behind_detach(log: Log = print) -> None:
    """A GAN whose generator loss uses the samples that were detached for the critic."""
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 8), nn.Linear(8, 1)
    of_generator, of_critic = adamw(generator), adamw(critic)
    for x, _ in batches(14):
        fake = generator(torch.randn(len(x), 4)).detach()
        of_critic.zero_grad()
        (critic(fake).mean() - critic(x).mean()).backward()
        of_critic.step()
        of_generator.zero_grad()
        (-critic(fake).mean()).backward()
        of_generator.step()


@faulty("W11")
def no_backward(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y)
        optimizer.step()


def clear_between(clear: Callable[[nn.Module, torch.optim.Optimizer], None]) -> None:
    model = network()
    optimizer = adamw(model)
    for x, y in batches(14):
        F.cross_entropy(model(x), y).backward()
        clear(model, optimizer)
        optimizer.step()


@faulty("W03")
def cleared_before_step(log: Log = print) -> None:
    clear_between(lambda model, optimizer: optimizer.zero_grad())


@faulty("W03")
def cleared_to_zeros_before_step(log: Log = print) -> None:
    clear_between(lambda model, optimizer: model.zero_grad(set_to_none=False))


@faulty("W01")
def divided_twice(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    for number, (x, y) in enumerate(batches(48), 1):
        (F.cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 0:
            for parameter in model.parameters():
                parameter.grad /= 4
            optimizer.step()
            optimizer.zero_grad()


@faulty("W01", "warning")
def one_of_two_losses_undivided(log: Log = print) -> None:
    """Two backwards per micro-batch, at two lines."""
    model, head = network(), nn.Linear(8, 4)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-2)
    for number, (x, y) in enumerate(batches(48), 1):
        F.cross_entropy(model(x), y).backward()
        (F.cross_entropy(head(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


@faulty("W06")
def stepped_beside_the_scaler(log: Log = print) -> None:
    model = network()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for x, y in batches(14):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        optimizer.step()
