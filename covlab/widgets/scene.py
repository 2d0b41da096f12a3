"""Sources, their covariance R, and the MUSIC spectra of R for spherical and for plane waves."""

import math
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from covlab.arguments import SEED, one_of
from covlab.estimators.classical import sample_covariance
from covlab.estimators.spectra import music
from covlab.plots.scenes import Spectra, covariance_and_spectra
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.widgets import Explorer
from covlab.widgets.controls import ChoiceControl, NumberControl, steps

OTHER = (-30.0, 3.0)
"""Azimuth in degrees and range in meters of the source that does not move."""

RANGES_M = [0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0]
FROM = ("true R", "sample covariance")


class SceneExplorer(Explorer):
    """Two sources of equal power at elevation 0, one of which moves.

    The spectrum over azimuth uses the moving source's range, and the spectrum over range uses its azimuth.

    Args:
        scenario: name of a preset with at least two sources.
        seed: of codes, symbols and noise.
    """

    title = "Move a source: its covariance R, and where MUSIC, a classical method, finds the sources in R"

    def __init__(self, scenario: str = "near_field", seed: int = 0):
        one_of(name for name, each in PRESETS.items() if each.max_sources > 1).check("scenario", scenario)
        SEED.check("seed", seed)
        self.scenario, self.seed = replace(preset(scenario), max_sources=2), seed
        self.simulator = Simulator(self.scenario)
        super().__init__(
            {
                "azimuth": NumberControl("azimuth φ, degrees", 20.0, steps(-60, 60, 49)),
                "range": NumberControl("range r, meters", 0.7, RANGES_M),
                "snr": NumberControl("SNR, dB", 20.0, steps(-5, 20, 26)),
                "R of": ChoiceControl("R to look at", FROM[0], FROM),
            }
        )

    def without_effect(self, state: dict) -> dict[str, str]:
        return {"snr": "The true R has no noise: choose the sample covariance."} if state["R of"] == FROM[0] else {}

    def draw(self, state: dict) -> tuple[Figure, str]:
        azimuth = torch.tensor([[state["azimuth"], OTHER[0]]]).deg2rad()
        range_m = torch.tensor([[state["range"], OTHER[1]]])
        half, level = torch.full((1, 2), 0.5), torch.tensor([state["snr"]])
        batch = self.simulator.observe(
            azimuth, torch.zeros(1, 2), range_m, half, level, scene_generator(self.seed, "explorer")
        )
        if state["R of"] == FROM[0]:
            R, title = batch.covariance(), "|R|, the truth"
        else:
            assert self.simulator.G is not None  # every preset has a known G
            R = sample_covariance(batch, self.simulator.G).covariance()
            R, title = R * (len(R[0]) / R[0].trace().real), f"|R̂| from {self.scenario.snapshots} snapshots"

        angles, ranges = torch.linspace(-75, 75, 151), torch.linspace(0.4, 10, 97)
        over_angle = {
            "spherical waves": self._music(R, angles.deg2rad(), torch.full_like(angles, state["range"])),
            "plane waves": self._music(R, angles.deg2rad(), None),
        }
        over_range = self._music(R, torch.full_like(ranges, math.radians(state["azimuth"])), ranges)
        along = f"range r at φ = {state['azimuth']:g}°, meters"
        figure = covariance_and_spectra(
            R[0].abs().numpy(),
            title,
            [
                Spectra(angles.numpy(), "azimuth φ, degrees", over_angle, [state["azimuth"], OTHER[0]]),
                Spectra(ranges.numpy(), along, {"spherical waves": over_range}, [state["range"]]),
            ],
        )
        found = {name: angles[spectrum.argmax()].item() for name, spectrum in over_angle.items()}
        alt = (
            f"Above, {title} as a heat map. In the middle, MUSIC over azimuth: highest at "
            f"{found['spherical waves']:.0f} degrees with spherical waves, at {found['plane waves']:.0f} degrees with "
            f"plane waves; the sources are at {state['azimuth']:g} and {OTHER[0]:g} degrees. Below, MUSIC over range: "
            f"highest at {ranges[over_range.argmax()].item():.1f} m; the source is at {state['range']:g} m, "
            f"{state['range'] / self.scenario.fraunhofer_distance_m:.2f} of the Fraunhofer distance. "
            f"SNR {state['snr']:g} dB."
        )
        return figure, alt

    def _music(self, R: Tensor, azimuth: Tensor, range_m: Tensor | None) -> np.ndarray:
        """Return MUSIC's spectrum for two sources, in dB [G], at positions [G]; ``range_m`` None: for plane waves."""
        scenario = self.scenario
        if range_m is None:
            scenario, range_m = replace(scenario, near_field=False), torch.ones_like(azimuth)
        steering = steering_vectors(scenario, azimuth, torch.zeros_like(azimuth), range_m)
        return (10 * music(R, torch.tensor([2]), steering.mT)[0].log10()).numpy()
