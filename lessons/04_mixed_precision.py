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
# **Question.** What does half precision lose, what does the loss scale save, and where must the loss be computed?
#
# **Bugs path** 3 of 6 · **Whole course** 5 of 12 · 45 minutes · needs no other lesson
#
# Mixed precision runs a network's layers in half precision (16 bits per number) and everything else in single precision
# (32 bits). It is fast and mostly harmless. In this lesson you measure where it does harm. Afterwards you can
#
# - say whether a gradient is too small or too large for half precision;
# - choose a loss scale (a factor that protects small gradients), and say how exact it must be;
# - find the lines of a loss that run in half precision.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %% [markdown]
# ## Three number formats
#
# A floating-point number uses some of its bits for *digits* and others for *range*. Single precision is also called
# fp32. Half precision comes in two formats, fp16 and bf16, which divide their 16 bits differently. Each bar below shows
# which sizes of numbers a format can hold. Near the lower end of its range, each format loses digits, one by one:

# %%
# Loads PyTorch, which takes about 5 s.
from covlab.course import check, choose_device, choose_scenario, measure, outcome, predict

device = choose_device(profile)

# %% tags=["hide-input"]
# Draws and tabulates the range of three formats
from math import log2

import torch  # after covlab, which sets PyTorch's threads

from covlab import plots
from covlab.plots.half_precision import number_lines

formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
infos = {name: torch.finfo(dtype) for name, dtype in formats.items()}


def smallest(info):
    return info.smallest_normal * info.eps  # below smallest_normal, digits are lost one by one


plots.show(
    number_lines(
        {name: (log2(smallest(info)), log2(info.smallest_normal), log2(info.max)) for name, info in infos.items()}
    ),
    "Three bars on an axis of powers of two. fp32 reaches from 2 to the minus 149 to 2 to the 128, bf16 from 2 to the "
    "minus 133 to 2 to the 128, and fp16 only from 2 to the minus 24 to 2 to the 16. Near its lower end each format "
    "has fewer digits: for fp16, below 2 to the minus 14.",
)
plots.table(
    ["format", "rounding error", "largest", "smallest with all digits", "smallest above 0"],
    [
        (name, f"{info.eps / 2:.0e}", f"{info.max:.5g}", f"{info.smallest_normal:.0e}", f"{smallest(info):.0e}")
        for name, info in infos.items()
    ],
)

# %% [markdown]
# - **fp16** rounds well, but its range is short. A number above 65504 becomes infinite. The smallest number above zero
#   is 2⁻²⁴, about 6e-8. Half of that, or less, is rounded to zero.
# - **bf16** has the range of fp32, but eight times the rounding error of fp16.
#
# PyTorch's `autocast` makes the layers of a network compute in half precision. A **loss scale** S is a factor on the
# loss: multiply the loss by S before `backward`, and divide the gradient by S after it. In exact arithmetic this
# changes nothing. In fp16 it makes every number of the backward pass larger, or smaller if S is below 1.
#
# ## Predict

# %%
predict(
    "04.unscaled",
    "A small network in fp16, without a loss scale. Compared with single precision, its gradient is …",
    ["hardly different", "about half wrong", "all zeros"],
)

# %%
predict(
    "04.divided",
    "The same network, but the loss is divided by 65,536, as if it had a small weight. Now the gradient is …",
    ["hardly different", "about half wrong", "all zeros"],
)

# %% [markdown]
# ## The experiment
#
# This function computes one gradient. The layers run under autocast, and the loss is computed outside of it. `nmse`
# returns one error per training example, which this course calls a *scene*. The backward pass includes the loss scale,
# which is then divided out in double precision.
#
# One number says how wrong a gradient g is: ‖g − r‖ / ‖r‖. Here r is the gradient in single precision, and ‖r‖ is the
# length of this vector, over all parameters together. 0 means equal. A gradient that is all zeros has an error of 1.

# %%
from covlab.course.experiments.scenes_and_network import scenes_and_network

scenes, model = scenes_and_network(choose_scenario(device), device, seed, "precision")


def gradient(precision, scale=1.0):
    """The gradient with the layers in this precision, all parameters in one vector [P]."""
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
# Shows what happened, beside your predictions
def in_words(value):
    return "hardly different" if value < 0.05 else "about half wrong" if value < 0.95 else "all zeros"


fp16 = dict(zip(powers, errors["fp16"]))
floor = fp16[10]
outcome(
    "04.unscaled",
    in_words(fp16[0]),
    because="This loss is close to 1, and most entries of its gradient lie where fp16 still has most of its digits.",
)
outcome(
    "04.divided",
    in_words(fp16[-16]),
    because="Dividing the loss by 65,536 means a loss scale of 2⁻¹⁶. Every entry then becomes zero during backward.",
)
good = [power for power in powers if fp16[power] < 1.1 * floor]
measure("04.unscaled_error", 100 * fp16[0])
measure("04.floor", 100 * floor)
measure("04.bf16_over_fp16", errors["bf16"][0] / floor)
measure("04.plateau", max(good) - min(good))

# %% tags=["hide-input"]
# Draws the error of the gradient over the loss scale
from covlab.plots.half_precision import error_over_scale

plots.show(
    error_over_scale(powers, errors, "loss scale", {0: "no loss scale", 16: "GradScaler starts here"}),
    "Error of the gradient over the loss scale, on logarithmic axes. In fp16 it is a valley: at scales up to 2 to the "
    "minus 12 the error is one, because the gradient is zero. From there it falls, reaches the rounding error a little "
    "above a scale of one, and stays flat over some twenty powers of two. From about 2 to the 24 or 26 on, the gradient "
    "is infinite. In bf16 the error is the same at every scale, several times that of fp16's flat floor.",
)

# %% [markdown]
# The blue line (fp16) looks like a valley: high on the left, flat in the middle, with crosses on the right. Read it
# from right to left.
#
# - **On the right**, some entries of the gradient exceed 65504 and become infinite. One infinite entry is enough to
#   spoil the step.
# - **On the flat floor**, only rounding remains: <span data-claim="04.floor">0.06 to 0.08</span>&nbsp;% of the
#   gradient. (A range in the text covers five seeds.) The floor is <span data-claim="04.plateau">20 to 22</span> powers
#   of two wide. So a loss scale does not have to be exact. It only has to lie on this floor.
# - **On the left**, entries first lose digits and then become zero. This happens to small entries first. At the left
#   end the whole gradient is zero. There is no error message and no NaN: the network just stops learning.
#
# Without a loss scale this network's gradient is wrong by
# <span data-claim="04.unscaled_error">0.1 to 0.2</span>&nbsp;%. So it needs no loss scale, but it is close to the slope
# on the left: if you divide the loss by 4096, almost the whole gradient is lost. **The loss scale is a safety margin.**
# bf16 needs no loss scale. But it has <span data-claim="04.bf16_over_fp16">7 to 9</span>&nbsp;times the rounding error
# of fp16, at every scale.
#
# ## Find and fix: the largest loss scale
#
# A colleague wants the largest loss scale that is safe for a given gradient. But with the answer of this function, some
# gradients *overflow*: an entry becomes infinite.

# %% tags=["exercise"]
import torch


def largest_scale(gradient):
    """The largest power of two S such that no entry of S * gradient [P] overflows in fp16."""
    size = gradient.abs().mean()
    limit = torch.finfo(torch.float16).max
    return 2.0 ** torch.floor(torch.log2(limit / size)).item()


# %% tags=["solution"]
import torch


def largest_scale(gradient):
    """The largest power of two S such that no entry of S * gradient [P] overflows in fp16."""
    size = gradient.abs().max()
    limit = torch.finfo(torch.float16).max
    return 2.0 ** torch.floor(torch.log2(limit / size)).item()


# %%
check("04.largest_scale", largest_scale)

# %% [markdown]
# PyTorch's `GradScaler` does not compute the largest safe scale. It *tries* scales. It starts at 2¹⁶. If a gradient
# overflows, it skips the step and halves the scale. After 2000 steps without an overflow, it doubles the scale.
#
# Change the loss scale in the explorer below. The first panel shows the sizes of the gradient's entries, and which of
# them are too small or too large for fp16. The second panel shows what a scaler does if it starts at this scale. A
# *window* is the set of batches that one optimizer step uses.

# %%
from covlab.widgets import LossScaleExplorer

explorer = LossScaleExplorer(seed=seed)
explorer.show()

# %% [markdown]
# Here is the explorer with two other settings. Without a loss scale, many entries lose digits. A scale that starts too
# high falls within a few windows, and each time it falls, a step is skipped:

# %% tags=["hide-input"]
# Draws the explorer without a loss scale, and with a high one
explorer.still_of("No loss scale", {"scale": 0.0})
explorer.still_of("A loss scale that starts at 2²⁸", {"scale": 28.0})

# %% [markdown]
# ## The loss and autocast
#
# A loss should be computed in single precision. Suppose somebody computes it inside the *autocast region*, the block
# `with torch.autocast(…):`, but converts its inputs with `.float()`.

# %%
predict(
    "04.float",
    "Inside an autocast region for fp16, x is the output of a layer. What is the type of `x.float() @ x.float().T`?",
    ["float32", "float16"],
)

# %%
z = torch.randn(4, 4, dtype=torch.complex64, device=device)
layer = torch.nn.Linear(4, 4, device=device)
with torch.autocast(device, torch.float16):
    x = layer(torch.randn(4, 4, device=device))
    results = {
        "x": x,
        "x.float()": x.float(),
        "x.float() @ x.float().T": x.float() @ x.float().T,
        "z @ z.mH": z @ z.mH,
    }

# %% tags=["hide-input"]
# Shows what happened, and tabulates all four types
types = {expression: str(value.dtype).removeprefix("torch.") for expression, value in results.items()}
outcome(
    "04.float",
    types["x.float() @ x.float().T"],
    because="Autocast looks at the operation, not at the types of its inputs. Inside the region a matrix product runs in "
    "fp16. So autocast converts both inputs back, which undoes the `.float()`.",
)
plots.table(["inside autocast", "type"], [(f"`{expression}`", name) for expression, name in types.items()])

# %% [markdown]
# Look at the last row, too: `z` is complex, and autocast does not change **complex** products. covlab, the Python
# package of this course, multiplies complex matrices in its loss, so autocast would not harm it. (covlab still computes
# its loss outside.)
#
# Lesson 06 is about a real training pipeline. It computed its loss inside autocast, from inputs converted with
# `.float()`. A code review called that loss "FP32". The next cell compares such a loss, with products of real matrices
# (lines with +), with the loss of covlab (line with −):

# %% tags=["hide-input"]
# Prints how the loss inside autocast differs from covlab's
from covlab.faults import FAULTS

print(FAULTS["loss_inside_autocast"].diff())

# %% [markdown]
# This loss is called NMSE, normalized mean squared error. It compares the network's output, the estimate, with the true
# matrix. First it scales both to the same trace (the sum of the diagonal). So if you multiply the estimate by a
# positive number, the loss must stay the same. Its gradient must stay the same, too, except for a known factor, which
# the next cell takes out. To test this, the cell trains a network for a moment and multiplies its estimate by powers of
# two. Then it compares each gradient with the one in single precision.

# %%
from covlab.course.experiments.loss_inside_autocast import ScaledEstimate
from covlab.faults.small_run import finish, small_run

trained = finish(small_run(seed=seed, windows=60))
estimate = ScaledEstimate(trained)
exact_loss, exact = estimate.loss_and_gradient(power=0, scale=1.0, inside=False)


def loss_error(power, scale, inside):
    """Error of the gradient, with the estimate times 2^power, and with this loss scale."""
    return error(estimate.loss_and_gradient(power, scale, inside)[1], exact)


stretches = range(-16, 17)
scales = {"inside, loss scale 2¹⁶": 2.0**16, "inside, no loss scale": 1.0}
inside = {label: [loss_error(power, scale, inside=True) for power in stretches] for label, scale in scales.items()}
outside = max(loss_error(power, 1.0, inside=False) for power in stretches)
print(f"largest error outside autocast: {outside:.0e}")

# %% tags=["hide-input"]
# Draws the error of the gradient over the factor
plots.show(
    error_over_scale(stretches, inside, "factor of the estimate", {0: "as trained"}),
    "Error of the loss's gradient inside autocast over the factor of the estimate. With a loss scale it is near 1 in a "
    "thousand over more than ten powers of two around the trained network's own scale. On both sides, from 2 to the 8 "
    "up and from 2 to the minus 7 down, the gradient is infinite or NaN. Without a loss scale the error rises from "
    "a factor of one on, to the whole gradient at 2 to the 6.",
)
scaled = dict(zip(stretches, inside["inside, loss scale 2¹⁶"]))
measure("04.loss_error_inside", 100 * abs(estimate.loss_and_gradient(0, 1.0, inside=True)[0] / exact_loss - 1))
measure("04.gradient_error_inside", 100 * scaled[0])
measure("04.first_nan", min(power for power in stretches if power > 0 and not scaled[power] < 1))
if outside > 1e-5:
    raise RuntimeError("outside autocast the gradient should not depend on the estimate's scale")

# %% [markdown]
# Outside autocast the factor changes nothing. Inside, with a loss scale of 2¹⁶, the blue line is low in the middle and
# has crosses on both sides.
#
# - **In the middle**, the estimate has the scale that the network learned. Its loss is wrong by
#   <span data-claim="04.loss_error_inside">0.00 to 0.01</span>&nbsp;%, its gradient by
#   <span data-claim="04.gradient_error_inside">0.08</span>&nbsp;%. Nobody would notice.
# - **On the right**, the crosses begin at an exponent of <span data-claim="04.first_nan">8</span>. The products exceed
#   65504 and become infinite, and infinity divided by infinity is NaN. This happens in the *forward* pass, so no loss
#   scale helps.
# - **On the left**, the estimate is small, so its gradient is large. Multiplied by the loss scale, it exceeds 65504,
#   too.
#
# The NMSE ignores the scale of the estimate, so the network can learn any scale. Nothing prevents a run from reaching
# the crosses on either side.
#
# ## Find and fix: a loss in full precision
#
# Here the estimate is a product F Fᵀ, and the truth is S Sᵀ. This function gets the factors F and S in half precision,
# and it is called inside an autocast region. Its author says that it computes in single precision. It does not.


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
# So the fix has two parts: leave the autocast region, *and* convert the inputs:
#
# ```python
# with torch.autocast(device, enabled=False):
#     loss = nmse(estimate.float(), truth.float())
# ```
#
# ## Find and fix: a gradient for the step
#
# This function prepares a gradient for a step of plain SGD. It should *clip* it: shorten it if it is longer than
# `most`. Without this function the network learns. With it the log shows nothing wrong, but the parameters hardly
# change.


# %% tags=["exercise"]
def clipped_gradient(scaled, scale, most):
    """The gradient for the step [P], from one that contains the loss scale: at most `most` long."""
    clipped = scaled * min(1.0, most / float(scaled.norm()))
    return clipped / scale


# %% tags=["solution"]
def clipped_gradient(scaled, scale, most):
    """The gradient for the step [P], from one that contains the loss scale: at most `most` long."""
    gradient = scaled / scale
    return gradient * min(1.0, most / float(gradient.norm()))


# %%
check("04.clipped_gradient", clipped_gradient)

# %% [markdown]
# ## Would the training curve show it?
#
# The network that you trained above used single precision. Here are four more runs with the same seed and the same
# scenes. The last one computes its loss inside autocast.

# %%
# about 6 s
setting = dict(seed=seed, windows=60)
runs = {
    "bf16": small_run(**setting, precision="bf16"),
    "fp16, loss scale 2¹⁶": small_run(**setting, precision="fp16"),
    "fp16, loss scale 2⁻¹²": small_run(
        **setting,
        precision="fp16",
        loss_scale=2.0**-12,
    ),
    "fp16, loss inside autocast (BUG)": small_run(
        "loss_inside_autocast",
        **setting,
        precision="fp16",
    ),
}
reached = {"fp32": trained.history[-1]["validation"]}
reached |= {name: finish(run).history[-1]["validation"] for name, run in runs.items()}

# %% tags=["hide-input"]
# Tabulates the error that each run reached
plots.table(["run", "NMSE reached"], [(name, f"{value:.4f}") for name, value in reached.items()])
measure("04.spread_of_runs", 100 * (reached["fp16, loss scale 2⁻¹²"] / reached["fp32"] - 1))
measure("04.bug_behind", 100 * abs(reached["fp16, loss inside autocast (BUG)"] / reached["fp32"] - 1))

# %% [markdown]
# The run with a loss scale of 2⁻¹² ends <span data-claim="04.spread_of_runs">2 to 10</span>&nbsp;% above the run in
# single precision. It looks like any run that learns a little more slowly. But at this scale almost the whole gradient
# is lost. These runs use the optimizer AdamW, which rescales even a badly damaged gradient to a normal step.
#
# The run with its loss inside autocast differs from the run in single precision by
# <span data-claim="04.bug_behind">0.00 to 0.04</span>&nbsp;%. Its curve shows nothing at all.
#
# **A training curve cannot show that a loop is correct.** Measure the gradient, and check the types of the matrix
# products.
#
# ## Where this happened to others
#
# - **The product behind a `.float()`.** `NVIDIA/apex#973` (2020, open when last seen): a style loss is NaN, because
#   `f.bmm(f_T)` runs in half precision although both inputs are float32. Like the products in this lesson, this one
#   multiplies a matrix by its own transpose.
# - **Clipped before unscaling.** `milesial/Pytorch-UNet#470` (merged, 2023) and `Lightning-AI/pytorch-lightning#9606`
#   (merged, 2021) each fix the bug of the last exercise: the gradient was clipped while it still contained the loss
#   scale.
#
# ## In three lines
#
# - fp16 loses small numbers first, without a message. The loss scale makes them larger. It does not have to be exact:
#   here, any scale within a range of about twenty powers of two works.
# - Inside autocast, the operation decides the type, not the input. A loss must leave the region *and* convert its
#   inputs.
# - Divide the loss scale out before you look at a gradient. The training curve will not tell you that you forgot.
#
# **Next.** Bugs path: [07 · Overflow and sanitization](07_overflow_and_sanitization.ipynb). A loss scaler learns from
# overflows. What happens if somebody removes them before the scaler sees them? Whole course:
# [05 · Gradient accumulation](05_gradient_accumulation.ipynb), for batches that are too large even in half precision.
