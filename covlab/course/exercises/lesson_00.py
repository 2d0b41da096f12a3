"""The exercise of lesson 00: a small one, to see how `check` answers."""

import torch

from covlab.course.exercises import Exercise, Hint

in_decibels = Exercise(
    id="00.in_decibels",
    law="A power ratio of 1 is 0 dB, ten times the power is 10 dB more, and half the power about 3 dB less.",
    draw=lambda generator: (10 ** torch.empty(4).uniform_(-2, 2, generator=generator),),
    right=lambda power_ratio: 10 * torch.log10(power_ratio),
    hints=[
        Hint(
            "your decibels are exactly {ratio:.2f}× the right ones. Is this the formula for powers, or for amplitudes?",
            mistake=lambda power_ratio: 20 * torch.log10(power_ratio),
        ),
        Hint(
            "your result is {ratio:.2f}× the right one: those are bels. How many decibels has a bel?",
            mistake=torch.log10,
        ),
        Hint(
            (
                "your result is {ratio:.4f}× the right one, and 2.3026 is the natural logarithm of 10: which logarithm "
                "is this?"
            ),
            mistake=lambda power_ratio: 10 * torch.log(power_ratio),
        ),
        Hint(
            "the sign is turned: this is noise over signal.", mistake=lambda power_ratio: -10 * torch.log10(power_ratio)
        ),
    ],
)
