"""Correct training loops of many kinds, in which a watch must find nothing.

Every function trains something small for a few windows, written as people write it, and does not know that it is
watched.
"""

# mypy: no-strict-optional
# A textbook loop does not ask whether a gradient is None.

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

Loop = Callable[[], nn.Module]
HEALTHY: dict[str, Loop] = {}


def healthy(function: Loop) -> Loop:
    HEALTHY[function.__name__] = function
    return function


def network(dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))


def batches(count: int, size: int = 6, seed: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


@healthy
def raw() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@healthy
def accumulation() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        for number, (x, y) in enumerate(batches(16), 1):
            (F.cross_entropy(model(x), y) / 4).backward()
            if number % 4 == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    return model


@healthy
def short_last_window() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = batches(15)
    for _ in range(3):
        for start in range(0, len(data), 4):
            window = data[start : start + 4]
            for x, y in window:
                (F.cross_entropy(model(x), y) / len(window)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def ragged_micro_batches() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for seed in range(12):
        window = [batches(1, size, seed * 10 + size)[0] for size in (3, 6, 2, 5)]
        total = sum(len(x) for x, _ in window)
        for x, y in window:
            loss = F.cross_entropy(model(x), y) * (len(x) / total)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@healthy
def token_normalized() -> nn.Module:
    """A sum over the unmasked tokens, divided by their number in the whole window."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = batches(48, 10)
    for start in range(0, len(data), 4):
        window = [
            (x, torch.where(torch.arange(10) < 4 + number, y, -100))
            for number, (x, y) in enumerate(data[start : start + 4])
        ]
        tokens = sum((y != -100).sum() for _, y in window)
        for x, y in window:
            (F.cross_entropy(model(x), y, reduction="sum") / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@healthy
def sum_loss() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for number, (x, y) in enumerate(batches(48), 1):
        F.cross_entropy(model(x), y, reduction="sum").backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def masked_mean() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for number, (x, y) in enumerate(batches(48), 1):
        mask = (torch.arange(len(x)) < 3 + number % 3).float()
        loss = (F.cross_entropy(model(x), y, reduction="none") * mask).sum() / mask.sum()
        (loss / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def divided_before_the_mean() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for number, (x, y) in enumerate(batches(48), 1):
        (F.cross_entropy(model(x), y, reduction="none") / 4).mean().backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def label_smoothing() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.tensor([1.0, 2.0, 1.0, 0.5]))
    plain = nn.CrossEntropyLoss(label_smoothing=0.1)
    for number, (x, y) in enumerate(batches(48), 1):
        ((plain if number <= 24 else criterion)(model(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def several_terms() -> nn.Module:
    """Terms that are divided separately, and a penalty."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for number, (x, y) in enumerate(batches(48), 1):
        out = model(x)
        loss = F.cross_entropy(out, y) / 4 + 0.1 * out.square().mean() / 4
        loss = loss + 1e-3 * sum(p.square().sum() for p in model.parameters()) / 4
        loss.backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def sum_over_tasks() -> nn.Module:
    """Several heads on one backbone, with one backward for each of their losses."""
    backbone, heads = network(), nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    optimizer = torch.optim.AdamW([*backbone.parameters(), *heads.parameters()], lr=1e-2)
    for x, y in batches(14):
        optimizer.zero_grad()
        features = backbone(x)
        for number, head in enumerate(heads):
            F.cross_entropy(head(features), y).backward(retain_graph=number < 2)
        optimizer.step()
    return backbone


@healthy
def two_backwards_of_two_losses() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for x, y in batches(14):
        optimizer.zero_grad()
        out = model(x)
        F.cross_entropy(out, y).backward(retain_graph=True)
        out.square().mean().backward()
        optimizer.step()
    return model


@healthy
def adversarial() -> nn.Module:
    """A GAN: two optimizers, a critic that adds two losses, a generator that runs without gradient in between."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
    critic = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    criterion = nn.BCEWithLogitsLoss()
    for x, _ in batches(14):
        critic.zero_grad()
        criterion(critic(x), torch.ones(len(x), 1)).backward()
        fake = generator(torch.randn(len(x), 4))
        criterion(critic(fake.detach()), torch.zeros(len(x), 1)).backward()
        of_critic.step()
        generator.zero_grad()
        criterion(critic(fake), torch.ones(len(x), 1)).backward()
        of_generator.step()
    return generator


@healthy
def critic_with_gradient_penalty() -> nn.Module:
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    of_generator, of_critic = (torch.optim.Adam(part.parameters(), lr=1e-3) for part in (generator, critic))
    for number, (x, _) in enumerate(batches(30), 1):
        with torch.no_grad():
            fake = generator(torch.randn(len(x), 4))
        mixed = (0.5 * x + 0.5 * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        loss = critic(fake).mean() - critic(x).mean() + 10 * (slope.norm(dim=1) - 1).square().mean()
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        if number % 5 == 0:
            of_generator.zero_grad()
            (-critic(generator(torch.randn(len(x), 4))).mean()).backward()
            of_generator.step()
    return critic


@healthy
def closure() -> nn.Module:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=5)
    for x, y in batches(4, 20):

        def evaluate(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(evaluate)
    return model


@healthy
def loss_is_a_module() -> nn.Module:
    class Objective(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.temperature = network(), nn.Parameter(torch.tensor(1.0))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
            return {"loss": F.cross_entropy(self.model(x) * self.temperature, y), "size": len(x)}

    objective = Objective()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2, fused=True)
    for number, (x, y) in enumerate(batches(24), 1):
        (objective(x, y)["loss"] / 2).backward()
        if number % 2 == 0:
            optimizer.step()
            objective.zero_grad()
    return objective


@healthy
def functional_call() -> nn.Module:
    model = network()
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-2)
    for x, y in batches(14):
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y).backward()
        optimizer.step()
    return model


@healthy
def gradients_by_hand() -> nn.Module:
    """Gradients are cleared without zero_grad: set to None, or to zero in place."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for number, (x, y) in enumerate(batches(24)):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        for parameter in model.parameters():
            if number % 2:
                parameter.grad = None
            else:
                parameter.grad.data.zero_()
    return model


@healthy
def frozen_layers() -> nn.Module:
    model = network()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for x, y in batches(14):
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@healthy
def average_of_parameters() -> nn.Module:
    """An averaged copy is evaluated, the model trains; a held-out set; dropout."""
    model = network(dropout=0.2)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    held_out = batches(3, seed=9)
    for _ in range(4):
        model.train()
        for x, y in batches(8):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            average.update_parameters(model)
        model.eval()
        average.eval()
        with torch.no_grad():
            sum(F.cross_entropy(judge(x), y) for judge in (model, average) for x, y in held_out)
    return model


@healthy
def both_sets_measured() -> nn.Module:
    """Training loss, on a part of the training set, and validation loss are both measured in evaluation mode."""
    model = network(dropout=0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    training, held_out = batches(16), batches(3, seed=9)
    for _ in range(3):
        for x, y in training:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            for part in (training[:3], held_out):
                sum(F.cross_entropy(model(x), y) for x, y in part)
        model.train()
    return model


@healthy
def schedule_per_epoch() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(5):
        for x, y in batches(5):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        schedule.step()
    return model


@healthy
def warm_up() -> nn.Module:
    """A warm-up that starts small, followed by a cosine; accumulation; a schedule within a schedule."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-4, total_iters=6)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [6])
    for number, (x, y) in enumerate(batches(48), 1):
        (F.cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return model


@healthy
def activation_checkpointing() -> nn.Module:
    torch.manual_seed(0)
    blocks, head = (
        nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Tanh()) for _ in range(3)),
        nn.Linear(8, 4),
    )

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head = blocks, head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False)
            return self.head(x)

    model = Deep()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for number, (x, y) in enumerate(batches(28), 1):
        (F.cross_entropy(model(x), y) / 2).backward()
        if number % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


def _half(scale: float, fused: bool, steps: int = 16, schedule: bool = False, clip: bool = True) -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    for number, (x, y) in enumerate(batches(2 * steps), 1):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss / 2).backward()
        if number % 2 == 0:
            if clip:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            before = scaler.get_scale()
            scaler.update()
            if scaler.get_scale() >= before:
                rates.step()
            optimizer.zero_grad()
    return model


@healthy
def half_precision() -> nn.Module:
    return _half(2.0**10, fused=False)


@healthy
def half_precision_with_skips() -> nn.Module:
    """The scale starts too high: the first steps are skipped, as they should be; the schedule waits for them."""
    return _half(2.0**24, fused=False)


@healthy
def half_precision_fused_with_skips() -> nn.Module:
    return _half(2.0**24, fused=True, clip=False)


@healthy
def brain_floats() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=True)
    for x, y in batches(14):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@healthy
def gate_by_hand() -> nn.Module:
    """A step is skipped where a gradient is not finite, without a scaler."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for number, (x, y) in enumerate(batches(20)):
        loss = F.cross_entropy(model(x), y) * (math.inf if number == 7 else 1.0)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
    return model


@healthy
def sharpness_aware() -> nn.Module:
    """Two backwards per step; the first one's gradients move the parameters away and are cleared without a step."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, y in batches(14):
        F.cross_entropy(model(x), y).backward()
        kept = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(parameter.grad, alpha=0.05)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.copy_(value)
        optimizer.step()
        optimizer.zero_grad()
    return model


@healthy
def contrastive() -> nn.Module:
    """Two forwards per window, one backward through both; a target network that is only averaged."""
    model = network()
    target = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, _ in batches(14):
        one, two = model(x), model(x + 0.1 * torch.randn_like(x))
        aim = target(x).detach()
        loss = (one - two).square().mean() + (one - aim).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
    return model


@healthy
def distillation() -> nn.Module:
    """A teacher in evaluation mode sees the training inputs; a perceptual loss runs through a frozen network."""
    teacher, student, judge = network(seed=3).eval(), network(), network(seed=4).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    for x, _ in batches(14):
        with torch.no_grad():
            wanted = teacher(x).softmax(1)
        out = student(x)
        loss = (
            F.kl_div(out.log_softmax(1), wanted, reduction="batchmean")
            + 0.1 * (judge(x + out.repeat(1, 2)) - judge(x)).square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


@healthy
def policy_gradient() -> nn.Module:
    """An episode of forwards, one backward through all of them; advantages weigh the elements."""
    torch.manual_seed(0)
    policy = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(12):
        logs = []
        for _ in range(5):
            choice = torch.distributions.Categorical(logits=policy(torch.randn(4)))
            logs.append(choice.log_prob(choice.sample()))
        loss = (-torch.stack(logs) * torch.linspace(1, 0, 5)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


@healthy
def gradients_divided() -> nn.Module:
    """The gradients, not the losses, are divided by the real length of the window, then clipped."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = batches(15)
    for _ in range(3):
        for start in range(0, len(data), 4):
            window = data[start : start + 4]
            for x, y in window:
                F.cross_entropy(model(x), y).backward()
            for parameter in model.parameters():
                parameter.grad.data.div_(len(window))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def unscaled_gradients_divided() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number, (x, y) in enumerate(batches(48), 1):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if number % 4 == 0:
            scaler.unscale_(optimizer)
            for parameter in model.parameters():
                parameter.grad = parameter.grad / 4
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return model


@healthy
def clipped_by_hand() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for number, (x, y) in enumerate(batches(48), 1):
        (F.cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 0:
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            for parameter in model.parameters():
                parameter.grad.mul_((0.3 / norm).clamp(max=1))
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def replayed() -> nn.Module:
    """Double Q-learning: actions and targets are taken without a gradient from what is trained on, before and after."""
    torch.manual_seed(0)
    model, target = network(), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    states = [torch.randn(1, 8) for _ in range(41)]
    memory = [(torch.randn(1, 8), torch.tensor([number % 4]), torch.randn(1, 8)) for number in range(40)]
    for state, after in itertools.pairwise(states):
        with torch.no_grad():
            action = model(state).argmax(1)
        memory.append((state, action, after))
        chosen = [memory[number] for number in torch.randint(len(memory), (6,)).tolist()]
        x, taken, later = (torch.cat(column) for column in zip(*chosen, strict=True))
        with torch.no_grad():
            best = model(later).argmax(1, keepdim=True)
            value = target(later).gather(1, best).squeeze(1)
        loss = F.smooth_l1_loss(model(x).gather(1, taken[:, None]).squeeze(1), 0.9 * value)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@healthy
def crops_of_both_sets() -> nn.Module:
    """A language model: the loss is estimated on random crops of training and of validation text, some of which were
    seen.
    """
    torch.manual_seed(0)
    text = {"train": torch.randn(300, 8), "val": torch.randn(300, 8)}
    model = network(dropout=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def batch(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        x = text[part][torch.randint(300, (6,))]
        return x, (x[:, 0] > 0).long()

    for number in range(24):
        if number % 6 == 0:
            model.eval()
            with torch.no_grad():
                sum(F.cross_entropy(model(x), y) for part in text for x, y in (batch(part) for _ in range(3)))
            model.train()
        x, y = batch("train")
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@healthy
def unscaled_by_hand() -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for x, y in batches(14):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        for parameter in model.parameters():
            parameter.grad.div_(scaler.get_scale())
        optimizer.step()
    return model


@healthy
def losses_gathered_first() -> nn.Module:
    """A helper runs every backward, so both of a critic's come from one line."""
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 8), nn.Linear(8, 1)
    of_generator, of_critic = (torch.optim.Adam(part.parameters(), lr=1e-3) for part in (generator, critic))
    criterion = nn.BCEWithLogitsLoss()

    def step(optimizer: torch.optim.Optimizer, *losses: torch.Tensor) -> None:
        optimizer.zero_grad()
        for loss in losses:
            loss.backward()
        optimizer.step()

    for x, _ in batches(14):
        fake = generator(torch.randn(len(x), 4))
        step(
            of_critic,
            criterion(critic(x), torch.ones(len(x), 1)),
            criterion(critic(fake.detach()), torch.zeros(len(x), 1)),
        )
        step(of_generator, criterion(critic(fake), torch.ones(len(x), 1)))
    return generator


@healthy
def mean_over_samples_of_sums() -> nn.Module:
    """A divergence is a mean over the batch of sums over the classes, here as many as micro-batches."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for number, (x, _) in enumerate(batches(48), 1):
        loss = F.kl_div(model(x).log_softmax(1), torch.full((len(x), 4), 0.25), reduction="batchmean")
        (loss / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


@healthy
def gradients_of_tasks_merged() -> nn.Module:
    """Each task's gradients are taken separately, and the step takes a combination of them."""
    model, heads = network(), nn.ModuleList(nn.Linear(4, 4) for _ in range(2)).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for x, y in batches(14):
        found = []
        for head in heads:
            optimizer.zero_grad()
            F.cross_entropy(head(model(x)), y).backward()
            found.append([parameter.grad.clone() for parameter in model.parameters()])
        for parameter, one, other in zip(model.parameters(), *found, strict=True):
            parameter.grad = one + other * ((one * other).sum() > 0)
        optimizer.step()
    return model


@healthy
def sparse_embeddings() -> nn.Module:
    torch.manual_seed(0)
    table, head = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 4)
    optimizers = torch.optim.SparseAdam(list(table.parameters())), torch.optim.Adam(head.parameters())
    for number in range(1, 41):
        x = torch.randint(50, (6,))
        (F.cross_entropy(head(table(x)), x % 4) / 2).backward()
        if number % 2 == 0:
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    return table
