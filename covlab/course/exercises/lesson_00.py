"""The exercise of lesson 00: a small one, to see how `check` answers."""

import torch

from covlab.course.exercises import Exercise
from covlab.course.exercises.case_parts import integer

in_decibels = Exercise(
    id="00.in_decibels",
    law="A power ratio of 1 is 0 dB, ten times the power is 10 dB more, and half the power about 3 dB less.",
    # Ratios far from 1, so that a small number added or clamped "for safety" shows.
    draw=lambda generator: (10 ** torch.empty(integer(generator, 1, 6)).uniform_(-9, 9, generator=generator),),
    right=lambda power_ratio: 10 * torch.log10(power_ratio),
    hints={
        "your decibels are {ratio:.2f}× the correct ones. Is this the formula for powers, or for amplitudes?": (
            lambda power_ratio: 20 * torch.log10(power_ratio)
        ),
        "your result is {ratio:.2f}× the correct one: it is in bels. How many decibels make a bel?": torch.log10,
        "your result is {ratio:.4f}× the correct one, and ln 10 is 2.3026. Which logarithm do you use?": (
            lambda power_ratio: 10 * torch.log(power_ratio)
        ),
        "the sign is reversed: this is noise over signal.": lambda power_ratio: -10 * torch.log10(power_ratio),
    },
)
