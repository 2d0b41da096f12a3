# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Mixed precision
#
# **Question.** What does fp16 lose, what does the loss scale save, and why must the loss leave autocast?
#
# Mixed precision runs a network's layers in half precision and everything else in single. It is fast, and mostly
# harmless. You will measure where it is not, and afterwards be able to
#
# - say from its size whether a gradient survives fp16;
# - choose a loss scale, and know how wrong it may be;
# - find the half-precision product in a loss that "is in FP32, look, there is a `.float()`".
#
# 45 minutes to read, half a minute to run. It needs no other lesson.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Predict
#
# Half precision has 16 bits a number in place of 32: fp16 or bf16. PyTorch's `autocast` makes layers compute in it.
# A *loss scale* multiplies the loss before `backward` and is divided out of the gradient after it; why, you will see.

# %%
# about 5 s, most of it to load PyTorch
from covlab.course import check, choose_device, choose_scenario, measure, outcome, predict

predict(
    "04.unscaled",
    "A small network in fp16, without any loss scale. Held against single precision, its gradient is …",
    ["hardly different", "about half wrong", "all zeros"],
)

# %%
predict(
    "04.divided",
    "The same, and the loss is divided by 65,536, as a term with a small weight is. Its gradient is …",
    ["hardly different", "about half wrong", "all zeros"],
)

# %% [markdown]
# ## Three number lines
#
# A floating-point number spends its bits on digits and on range, and half precision has few bits.

# %%
import torch  # after covlab, which tells it how threads should wait

from covlab import plots

formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def limits(name, info):
    smallest = info.smallest_normal * info.eps  # below smallest_normal, digits are lost one by one
    return name, f"{info.eps / 2:.0e}", f"{info.max:.3g}", f"{info.smallest_normal:.0e}", f"{smallest:.0e}"


plots.table(
    ["format", "rounding error", "largest", "smallest with all digits", "smallest at all"],
    [limits(name, torch.finfo(dtype)) for name, dtype in formats.items()],
)

# %% [markdown]
# - **fp16** rounds well, but its range is short: beyond 65504 is infinity, below 3e-8 is zero.
# - **bf16** has the range of fp32, and eight times the rounding error of fp16.
#
# A gradient is a *small* number: it is divided by the number of scenes, multiplied by small weights, handed down
# through many layers. So in fp16 the lower end is what matters. The **loss scale** moves the whole gradient up:
# multiply the loss by S before
# `backward`, divide the gradient by S after it. In exact arithmetic this changes nothing.

# %% [markdown]
# ## The experiment
#
# One gradient, in four lines: layers under autocast, the loss outside it, backward with the scale, and the scale taken
# out again in a precision that can hold it.

# %%
from covlab.networks.model import BackProjectionNet
from covlab.scenes.simulator import Simulator, scene_generator

device = choose_device(profile)
scenario = choose_scenario(device)
scenes = Simulator(scenario, device).draw(128, scene_generator(seed, "precision", device=device))
torch.manual_seed(seed)
model = BackProjectionNet(scenario, beams=32, width=64, rank=4).to(device)


def gradient(precision, scale=1.0):
    """The gradient of the mean NMSE with the layers in this precision, all parameters in one vector [P]."""
    model.zero_grad()
    with torch.autocast(device, formats[precision], enabled=precision != "fp32"):
        estimate = model(scenes.y, scenes.H, scenes.codes, scenes.snr_db)
    (scale * estimate.nmse(scenes).mean()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double() / scale


def error(g, reference):
    return ((g - reference).norm() / reference.norm()).item()


reference = gradient("fp32")
powers = range(-24, 33, 2)
errors = {name: [error(gradient(name, 2.0**power), reference) for power in powers] for name in ("fp16", "bf16")}

# %% tags=["hide-input"]
from covlab.plots.half_precision import error_over_scale

plots.show(
    error_over_scale(powers, errors, "loss scale", {0: "no loss scale", 16: "GradScaler starts here"}),
    "Error of the gradient over the loss scale. In fp16 it is a trough: at scales below about 2 to the minus 12 the "
    "gradient is all zeros and the error is one; it falls to the rounding error near a scale of one, stays flat over "
    "some twenty powers of two, and beyond about 2 to the 24 the gradient is infinite. In bf16 the error is the same "
    "at every scale, several times that of fp16's flat floor.",
)


# %%
def in_words(value):
    return "hardly different" if value < 0.05 else "about half wrong" if value < 0.95 else "all zeros"


fp16 = dict(zip(powers, errors["fp16"]))
because = "This loss is of the order of one, and its gradient lies where fp16 still has most digits."
outcome("04.unscaled", in_words(fp16[0]), because=because)
outcome("04.divided", in_words(fp16[-16]), because="A loss divided by 65,536 is a loss with a scale of 2⁻¹⁶.")

# %% tags=["hide-input"]
floor = fp16[10]
good = [power for power in powers if fp16[power] < 1.1 * floor]
measure("04.unscaled_error", 100 * fp16[0])
measure("04.floor", 100 * floor)
measure("04.bf16_over_fp16", errors["bf16"][0] / floor)
measure("04.plateau", max(good) - min(good))

# %% [markdown]
# **Why.** Read the fp16 line from right to left.
#
# - **On the right**, some entry passes 65504 and becomes infinite. One is enough to spoil the step.
# - **On the flat floor** only rounding is left, <span data-claim="04.floor">0.06</span> % of the gradient. It is about
#   <span data-claim="04.plateau">20</span> powers of two wide. So a loss scale need not be *right*; it needs to be
#   somewhere in there.
# - **On the left**, entries lose digits and then vanish. The last thing to vanish is the largest, and then the gradient
#   is zero: no error, no NaN, just a network that no longer learns.
#
# Without a loss scale this network is off by <span data-claim="04.unscaled_error">0.1</span> %. It needs none, but it
# stands close to the slope: divide its loss by 4096, or by a few more layers, and it goes down. **The loss scale is a
# reserve.** bf16 needs none, and pays with
# <span data-claim="04.bf16_over_fp16">8</span> times the rounding, everywhere.
#
# ## Find and mend, 1: the largest loss scale
#
# A gradient's entries are known. Up to where may the scale go?

# %% tags=["exercise"]
import torch


def largest_scale(gradient):
    """The largest loss scale, a power of two, at which no entry of a gradient [P] overflows in fp16."""
    size = gradient.abs().mean()
    return 2.0 ** torch.floor(torch.log2(torch.finfo(torch.float16).max / size)).item()


# %% tags=["solution"]
import torch


def largest_scale(gradient):
    """The largest loss scale, a power of two, at which no entry of a gradient [P] overflows in fp16."""
    size = gradient.abs().max()
    return 2.0 ** torch.floor(torch.log2(torch.finfo(torch.float16).max / size)).item()


# %%
check("04.largest_scale", largest_scale)

# %% [markdown]
# A `GradScaler` does not compute this. It *tries*: it starts at 2¹⁶, halves the scale whenever something overflowed
# (and skips that step), and doubles it after 2000 steps without. Move the scale below, and look at the gradient's
# exponents pass fp16's two ends, and at what a scaler that starts there does.

# %%
from covlab.widgets import LossScaleExplorer

explorer = LossScaleExplorer(seed=seed)
explorer.show()

# %% [markdown]
# Four settings worth a try, and their pictures:

# %% tags=["hide-input"]
explorer.still()

# %% [markdown]
# ## Why the loss must leave autocast
#
# A loss should be computed in single precision. Somebody leaves it inside the autocast region, and casts what goes into
# it.

# %%
predict(
    "04.float",
    "Inside an autocast region for fp16, x is a layer's output. What is `x.float() @ x.float().T`?",
    ["float32", "float16"],
)

# %%
x = torch.randn(4, 4, device=device)
z = torch.randn(4, 4, dtype=torch.complex64, device=device)
layer = torch.nn.Linear(4, 4, device=device)
with torch.autocast(device, torch.float16):
    seen = {
        "layer(x)": layer(x),
        "layer(x).float()": layer(x).float(),
        "layer(x).float() @ layer(x).float().T": layer(x).float() @ layer(x).float().T,
        "z @ z.mH, complex": z @ z.mH,
    }
    with torch.autocast(device, enabled=False):
        seen["the same real product, autocast disabled"] = layer(x).float() @ layer(x).float().T
seen = {expression: str(value.dtype).removeprefix("torch.") for expression, value in seen.items()}
plots.table(["inside autocast", "comes out as"], list(seen.items()))

# %%
outcome(
    "04.float",
    seen["layer(x).float() @ layer(x).float().T"],
    because="Inside the region a product is taken in fp16, whatever comes in: the `.float()` is undone.",
)

# %% [markdown]
# Autocast does not look at what comes in. It looks at the *operation*: inside the region, a matrix product is taken in
# fp16.
#
# Mind the fourth line. **Complex** products ignore autocast, so covlab's loss, in complex arithmetic, would come to no
# harm inside (covlab takes it outside all the same). The pipeline that lesson 06 looks at took its loss inside, behind
# a `.float()`, and a review called that "FP32". Here is such a loss in real products, beside covlab's:

# %%
from covlab.faults import FAULTS

inside = FAULTS["loss_inside_autocast"]
print(inside.diff())

# %% [markdown]
# The NMSE scales both matrices to the same trace, so the scale of the estimate must not matter, neither to the loss nor
# (but for a factor) to its gradient. Train a network for a moment, multiply its estimate by a power of two, and look.

# %%
from dataclasses import replace

from covlab.faults.small_run import finish, small_run

trained = finish(small_run(seed=seed, windows=60))
batch = trained.validation
with torch.no_grad():
    estimate = trained.model(batch.y, batch.H, batch.codes, batch.snr_db)
losses = {
    "outside": lambda estimate: estimate.nmse(batch),
    "inside": lambda estimate: inside.replacement(None, estimate, batch),
}


def loss_and_gradient(where, power, scale):
    """Of the estimate times 2^power: its mean loss, and the gradient by its factor, brought back to power 0."""
    c = 2.0**power
    factor = (c * estimate.factor).requires_grad_()
    loss = losses[where](replace(estimate, factor=factor, loading=c**2 * estimate.loading)).mean()
    (scale * loss).backward()
    return loss.item(), c * factor.grad / scale


# %%
stretches = range(-16, 17)
loss, exact = loss_and_gradient("outside", 0, 1.0)
loss_scales = {"inside, loss scale 2¹⁶": 2.0**16, "inside, no loss scale": 1.0}
errors = {
    name: [error(loss_and_gradient("inside", power, scale)[1], exact) for power in stretches]
    for name, scale in loss_scales.items()
}
outside = max(error(loss_and_gradient("outside", power, 1.0)[1], exact) for power in stretches)
print(f"largest error outside autocast: {outside:.0e}")

# %% tags=["hide-input"]
plots.show(
    error_over_scale(stretches, errors, "factor of the estimate", {0: "as trained"}),
    "Error of the loss's gradient inside autocast over the factor of the estimate. With a loss scale it is near 1 in a "
    "thousand over more than ten powers of two around the trained network's own scale; on either side, from 2 to the 8 "
    "up and from 2 to the minus 7 down, the gradient is infinite or NaN. Without a loss scale the error climbs from "
    "factor one on, to the whole gradient at 2 to the 6.",
)

# %% tags=["hide-input"]
scaled = dict(zip(stretches, errors["inside, loss scale 2¹⁶"]))
measure("04.loss_error_inside", 100 * abs(loss_and_gradient("inside", 0, 1.0)[0] / loss - 1))
measure("04.gradient_error_inside", 100 * scaled[0])
measure("04.first_nan", min(power for power in stretches if power > 0 and not scaled[power] < 1))
if outside > 1e-5:
    raise RuntimeError("outside autocast the gradient should not depend on the estimate's scale")

# %% [markdown]
# Outside autocast the factor changes nothing. Inside, the trained network's loss is off by some
# <span data-claim="04.loss_error_inside">0.005</span> %, its gradient by
# <span data-claim="04.gradient_error_inside">0.08</span> %: nobody would see it. But the network stands between two
# cliffs. At 2 to the <span data-claim="04.first_nan">8</span> times its scale the products pass 65504, and infinity
# over infinity is NaN. No loss scale helps, since it is the *forward* pass that overflows. On the other side the
# estimate is small, so its gradient is large (one over the factor), and the loss scale on top takes that beyond 65504.
# A network is free to choose its scale, as the NMSE does not care for it; nothing keeps a run away from either edge.
#
# **The mend is a region, not a cast**: leave autocast, *and* cast what comes in.
#
# ```python
# with torch.autocast(device, enabled=False):
#     loss = nmse(estimate.float(), truth.float())
# ```
#
# ## Find and mend, 2: a loss in full precision
#
# It is called inside an autocast region, with factors that come from a half-precision layer.


# %% tags=["exercise"]
def full_precision_loss(estimate, truth):
    """‖F Fᵀ − S Sᵀ‖² / ‖S Sᵀ‖² in single precision, from factors F and S in half [B, N, r] each -> [B]."""
    F, S = estimate.float(), truth.float()
    R, target = F @ F.mT, S @ S.mT
    return (R - target).square().sum(dim=(1, 2)) / target.square().sum(dim=(1, 2))


# %% tags=["solution"]
import torch


def full_precision_loss(estimate, truth):
    """‖F Fᵀ − S Sᵀ‖² / ‖S Sᵀ‖² in single precision, from factors F and S in half [B, N, r] each -> [B]."""
    with torch.autocast(estimate.device.type, enabled=False):
        F, S = estimate.float(), truth.float()
        R, target = F @ F.mT, S @ S.mT
        return (R - target).square().sum(dim=(1, 2)) / target.square().sum(dim=(1, 2))


# %%
check("04.full_precision_loss", full_precision_loss)

# %% [markdown]
# ## Find and mend, 3: unscale, then clip
#
# The loss scale is a visitor in the gradient. Whoever looks at the gradient before it has left sees another number.


# %% tags=["exercise"]
def clipped_gradient(scaled, scale, most):
    """The gradient for the step [P], from one that holds the loss scale: at most `most` long."""
    clipped = scaled * min(1.0, most / float(scaled.norm()))
    return clipped / scale


# %% tags=["solution"]
def clipped_gradient(scaled, scale, most):
    """The gradient for the step [P], from one that holds the loss scale: at most `most` long."""
    gradient = scaled / scale
    return gradient * min(1.0, most / float(gradient.norm()))


# %%
check("04.clipped_gradient", clipped_gradient)

# %% [markdown]
# ## Would you have seen it in the curve?
#
# The run above in single precision, and four more from the same seed, on the same scenes to memorize.

# %%
setting = dict(seed=seed, windows=60)
runs = {
    "bf16": small_run(**setting, precision="bf16"),
    "fp16, loss scale 2¹⁶": small_run(**setting, precision="fp16"),
    "fp16, loss scale 2⁻¹²": small_run(**setting, precision="fp16", loss_scale=2.0**-12),
    "fp16, loss inside autocast (BUGGED)": small_run("loss_inside_autocast", **setting, precision="fp16"),
}
reached = {"fp32": trained.history[-1]["validation"]}
reached |= {name: finish(run).history[-1]["validation"] for name, run in runs.items()}
plots.table(["run", "NMSE reached"], [(name, f"{value:.4f}") for name, value in reached.items()])
measure("04.spread_of_runs", 100 * (max(reached.values()) / min(reached.values()) - 1))

# %% [markdown]
# All five end within some <span data-claim="04.spread_of_runs">8</span> % of each other. The one at the foot of the
# slope is a little behind, as a slower run would be; the one with a half-precision loss is not behind at all. AdamW
# takes what is left of a gradient for a gradient. **A curve cannot acquit a loop**: measure the gradient, and the dtype
# of the products.
#
# ## Where this happened to others
#
# - **The product behind a `.float()`.** `NVIDIA/apex#973` (2020, open as last seen): a style loss is NaN, because
#   `f.bmm(f_T)` runs in half although both inputs are float32. It is the Gram matrix, the same product as here.
# - **Clipped before unscaled.** `milesial/Pytorch-UNet#470`, merged in 2023, and `Lightning-AI/pytorch-lightning#9606`,
#   merged in 2021, each mend just that.
#
# ## In three lines
#
# - fp16 loses small numbers first, and says nothing; the loss scale moves them up, and has twenty powers of two to be
#   wrong in.
# - Inside autocast the operation decides, not the input: a loss leaves the region *and* casts what comes in.
# - Unscale before you look at a gradient, and do not trust the curve to tell you that you forgot.
#
# **Onward.** A batch that is too large even in half precision is cut into pieces:
# [05 · Gradient accumulation](05_gradient_accumulation.ipynb). And a scaler learns from overflows. What if somebody
# mends them before it sees them? [07 · Overflow and sanitization](07_overflow_and_sanitization.ipynb)
