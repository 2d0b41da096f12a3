"""Which device a lesson runs on."""

from covlab.course import card
from covlab.course.parameters import PROFILES


def choose_device(profile: str) -> str:
    """"cuda" for the profile "gpu" where there is a GPU, else "cpu"; that it had to fall back is shown.

    Raises ValueError for a profile that is none.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if profile == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    card("No GPU here", ["You asked for the profile \"gpu\", and PyTorch sees no GPU on this machine: this lesson runs on the CPU. "
                         "It shows the same, and takes longer where it is sized for a GPU."], "plain")
    return "cpu"
