"""Scenes behind a RIS: sources, steering vectors, codes, snapshots.

    y_l = G diag(c_l) x_l + n_l,   x_l = A s_l,   E[s sᴴ] = P,   n_l ~ CN(0, σ²I),   R = A P Aᴴ

The RIS lies in the y-z plane, centred at the origin, and looks along +x. Symbols s_l are drawn
anew for every snapshot l, so that L snapshots carry L looks at R. R is the population covariance:
noise-free, not the one realized by these L symbols.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from covlab.scenario import Scenario, check_whole_number
from covlab.seams import injected_faults, take_seams


CONTRACT = ("y", "H", "codes", "snr_db")
"""The tensors of a batch that a network may read."""


@dataclass(frozen=True)
class Batch:
    """B scenes: the four contract tensors a network may read, and the truth behind them.

    Real pairs stand at the border (last axis: real, imaginary part); complex numbers inside.
    Slots of absent sources (K < K_max) have power 0.
    """

    y: Tensor  #: snapshots at the BS [B, L, M, 2]
    H: Tensor  #: effective channel G c_l of each snapshot [B, L, M, 2]
    codes: Tensor  #: RIS phase codes c_l [B, L, N, 2]
    snr_db: Tensor  #: signal-to-noise ratio in dB [B]
    weight: Tensor  #: weight of each scene in any mean over scenes; 1 as drawn [B]
    noise_power: Tensor  #: σ² [B]
    azimuth: Tensor  #: φ in radians [B, K_max]
    elevation: Tensor  #: θ in radians [B, K_max]
    range_m: Tensor  #: r in metres [B, K_max]
    power: Tensor  #: source powers, sum 1 a scene [B, K_max]
    steering: Tensor  #: A, complex, ‖a_k‖² = N [B, N, K_max]

    def __post_init__(self):
        scenes, snapshots, antennas = _shape_of("y", self.y, "[B, L, M, 2]")[:3]
        elements = _shape_of("codes", self.codes, "[B, L, N, 2]")[2]
        sources = _shape_of("power", self.power, "[B, K_max]")[1]
        expected = {
            "H": (scenes, snapshots, antennas, 2),
            "codes": (scenes, snapshots, elements, 2),
            "snr_db": (scenes,),
            "weight": (scenes,),
            "noise_power": (scenes,),
            "azimuth": (scenes, sources),
            "elevation": (scenes, sources),
            "range_m": (scenes, sources),
            "power": (scenes, sources),
            "steering": (scenes, elements, sources),
        }
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Batch.{name} must be {list(shape)} beside y {list(self.y.shape)}, got {list(getattr(self, name).shape)}")

    def __len__(self) -> int:
        return self.y.shape[0]

    def __getitem__(self, scenes) -> "Batch":
        """The chosen scenes, by slice or by index tensor [b]."""
        return Batch(**{field.name: getattr(self, field.name)[scenes] for field in fields(self)})

    def to(self, device) -> "Batch":
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def source_count(self) -> Tensor:
        """K of each scene [B]."""
        return (self.power > 0).sum(dim=1)

    def factor(self) -> Tensor:
        """F = A P^½, so that R = F Fᴴ [B, N, K_max]."""
        return self.steering * self.power.sqrt().unsqueeze(1)

    def covariance(self) -> Tensor:
        """R = A P Aᴴ, the population covariance at the RIS, trace N [B, N, N]."""
        factor = self.factor()
        return factor @ factor.mH


def _shape_of(name: str, tensor: Tensor, expected: str) -> torch.Size:
    if tensor.ndim != expected.count(",") + 1:
        raise ValueError(f"Batch.{name} must be {expected}, got {list(tensor.shape)}")
    return tensor.shape


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of all the scenes of ``batches``, in order."""
    return Batch(**{field.name: torch.cat([getattr(batch, field.name) for batch in batches]) for field in fields(Batch)})


def scene_generator(seed: int, stream: str, *index: int, device="cpu") -> torch.Generator:
    """A generator for one independent stretch of scenes.

    ``stream`` names what the scenes are for ("training", "validation", …) and ``index`` which stretch
    (epoch, micro-batch). Any two of (seed, stream, index) that differ give unrelated scenes: unlike
    ``seed + i``, neighbouring seeds share nothing. (Streams are spawned as in NumPy's SeedSequence.)

    Raises:
        ValueError: seed is negative or not a whole number.
    """
    check_whole_number("seed", seed, least=0)
    key = (*stream.encode(), 0, *index)
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) - 2**63)


def ris_positions(scenario: Scenario) -> Tensor:
    """q_n, the RIS elements, row by row, in metres [N, 3], float64."""
    rows = torch.arange(scenario.ris_rows, dtype=torch.float64) - (scenario.ris_rows - 1) / 2
    columns = torch.arange(scenario.ris_columns, dtype=torch.float64) - (scenario.ris_columns - 1) / 2
    z, y = torch.meshgrid(rows, columns, indexing="ij")
    return scenario.spacing_m * torch.stack([torch.zeros_like(y), y, z], dim=-1).reshape(-1, 3)


def directions(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vectors (cos θ cos φ, cos θ sin φ, sin θ) [..., 3]."""
    return torch.stack(
        [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=-1
    )


def steering_vectors(scenario: Scenario, azimuth: Tensor, elevation: Tensor, range_m: Tensor) -> Tensor:
    """Steering vectors of sources at (φ, θ, r) in radians and metres: [...] each -> [..., N], complex.

    Spherical wave: a_n = exp(-jk(‖p - q_n‖ - ‖p‖)); with ``scenario.near_field`` off, its limit for
    r -> ∞, the plane wave a_n = exp(jk u·q_n), and ``range_m`` does not matter.
    """
    elements = ris_positions(scenario).to(azimuth)
    along = directions(azimuth, elevation) @ elements.T
    if scenario.near_field:
        # ‖p - q‖ - ‖p‖ as a quotient: the plain difference of two nearly equal lengths loses
        # digits in float32 as r grows.
        r = range_m.unsqueeze(-1)
        square = (elements**2).sum(dim=-1) - 2 * r * along
        path = square / ((r**2 + square).sqrt() + r)
    else:
        path = -along
    phase = -scenario.wavenumber * path
    return torch.polar(torch.ones_like(phase), phase)


def site_channel(scenario: Scenario) -> Tensor:
    """G, the fixed channel from RIS to BS [M, N], complex128, mean |G|² = 1/N.

    Line of sight between the RIS and a uniform linear BS array plus fixed point scatterers of complex
    gain CN(0, 1), every path a spherical wave, weighed by the Rician factor κ. ``scenario.site_seed``
    draws the scatterers, wherever the arrays stand.
    """
    rng = np.random.default_rng(scenario.site_seed)
    elements = ris_positions(scenario)
    antennas = torch.zeros(scenario.bs_antennas, 3, dtype=torch.float64)
    antennas[:, 1] = scenario.spacing_m * (torch.arange(scenario.bs_antennas) - (scenario.bs_antennas - 1) / 2)
    antennas += torch.tensor([4.0, -3.0, 1.0], dtype=torch.float64)
    bearings = rng.standard_normal((scenario.scatterers, 3))
    bearings[:, 0] = abs(bearings[:, 0])
    bearings /= np.linalg.norm(bearings, axis=1, keepdims=True)
    scatterers = torch.from_numpy(bearings * rng.uniform(1.0, 8.0, (scenario.scatterers, 1)))
    gains = torch.view_as_complex(torch.from_numpy(rng.standard_normal((scenario.scatterers, 2))))

    def wave(distance: Tensor) -> Tensor:
        return torch.polar(torch.ones_like(distance), -scenario.wavenumber * distance)

    line_of_sight = wave(torch.cdist(antennas, elements))
    to_antennas, to_elements = wave(torch.cdist(antennas, scatterers)), wave(torch.cdist(scatterers, elements))
    scattered = (to_antennas * gains) @ to_elements
    kappa = 10 ** (scenario.rician_factor_db / 10)
    paths = ((kappa / (1 + kappa), line_of_sight), (1 / (1 + kappa), scattered))
    return sum(math.sqrt(share / scenario.ris_elements) * path / path.abs().square().mean().sqrt() for share, path in paths)


class Simulator:
    """Draws scenes of one scenario on one device.

    Args:
        scenario: what to draw.
        device: where the scenes are made, random numbers included.
        dtype: complex64, or complex128 for tests.
    """

    def __init__(self, scenario: Scenario, device="cpu", dtype: torch.dtype = torch.complex64):
        if dtype not in (torch.complex64, torch.complex128):
            raise ValueError(f"dtype must be torch.complex64 or torch.complex128, got {dtype}")
        self.scenario = scenario
        self.device = torch.device(device)
        self.dtype = dtype
        self.G = site_channel(scenario).to(self.device, dtype)  #: [M, N]
        take_seams(self)

    def draw(self, scenes: int, generator: torch.Generator) -> Batch:
        """``scenes`` scenes from ``generator``; the same state of it gives the same batch (on one kind of device).

        Raises:
            ValueError: ``scenes`` is not a positive whole number, or the generator is on another device.
        """
        check_whole_number("scenes", scenes, least=1)
        if generator.device.type != self.device.type:
            raise ValueError(f"generator must be on {self.device}, got one on {generator.device}")
        s, B = self.scenario, scenes
        N, L, K = s.ris_elements, s.snapshots, s.max_sources
        real = self.dtype.to_real()

        def uniform(low_high, *shape):
            low, high = low_high
            return low + (high - low) * torch.rand(*shape, generator=generator, device=self.device, dtype=real)

        def complex_normal(*shape):
            return torch.randn(*shape, generator=generator, device=self.device, dtype=self.dtype)

        azimuth, elevation = uniform(s.azimuth, B, K), uniform(s.elevation, B, K)
        range_m, power = uniform(s.range_m, B, K), uniform(s.power, B, K)
        snr_db = uniform(s.snr_db, B)
        count = torch.randint(1, K + 1, (B, 1), generator=generator, device=self.device)
        power = power * (torch.arange(K, device=self.device) < count)
        power = power / power.sum(dim=1, keepdim=True)
        steering = steering_vectors(s, azimuth, elevation, range_m).mT
        code_phase = uniform((0.0, 2 * math.pi), B, L, N)
        codes = torch.polar(torch.ones_like(code_phase), code_phase)

        # What each source alone would bring to each antenna; its power gives σ² without the symbols.
        factor = steering * power.sqrt().unsqueeze(1)
        arrivals = (codes.unsqueeze(2) * factor.mT.unsqueeze(1)) @ self.G.T  # [B, L, K, M]
        symbols, noise = self.symbols(B, generator), complex_normal(B, L, s.bs_antennas)
        signal_power = arrivals.abs().square().sum(dim=2).mean(dim=(1, 2))
        noise_power = signal_power / 10 ** (snr_db / 10)
        y = (symbols @ arrivals).squeeze(2) + noise * noise_power.sqrt().view(B, 1, 1)
        return Batch(
            y=torch.view_as_real(y),
            H=torch.view_as_real(codes @ self.G.T),
            codes=torch.view_as_real(codes),
            snr_db=snr_db,
            weight=torch.ones_like(snr_db),
            noise_power=noise_power,
            azimuth=azimuth,
            elevation=elevation,
            range_m=range_m,
            power=power,
            steering=steering,
        )


    def symbols(self, scenes: int, generator: torch.Generator) -> Tensor:
        """s_l ~ CN(0, 1), drawn anew for every source and snapshot [B, L, 1, K_max]."""
        shape = (scenes, self.scenario.snapshots, 1, self.scenario.max_sources)
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)


class FreshScenes:
    """Micro-batches of scenes never seen before; an epoch is only a place to pause and look.

    Micro-batch i of epoch e depends on (seed, e, i) alone, so a run can be taken up anywhere.
    """

    def __init__(self, simulator: Simulator, micro_batch: int, micro_batches: int, seed: int):
        check_whole_number("micro_batch", micro_batch, least=1)
        check_whole_number("micro_batches", micro_batches, least=1)
        self.simulator, self.micro_batch, self.seed = simulator, micro_batch, seed
        self._length = micro_batches
        self.faults = injected_faults()  #: names; empty on every honest run
        take_seams(self)

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides which scenes come, in plain values."""
        return {"kind": "fresh", "micro_batch": self.micro_batch, "micro_batches": len(self), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches an epoch."""
        return self._length

    def micro_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The micro-batches of ``epoch``, from number ``first`` on."""
        for index in range(first, len(self)):
            yield self.simulator.draw(self.micro_batch, self.generator("training", epoch, index))

    def held_out(self, micro_batches: int) -> Batch:
        """So many micro-batches for validation, from a stream of their own: never any of training's."""
        check_whole_number("micro_batches", micro_batches, least=1)
        return concatenate([self.simulator.draw(self.micro_batch, self.generator("validation", 0, index)) for index in range(micro_batches)])

    def generator(self, stream: str, epoch: int, index: int) -> torch.Generator:
        """The generator that draws micro-batch ``index`` of ``epoch`` in ``stream``, and nothing else."""
        return scene_generator(self.seed, stream, epoch, index, device=self.simulator.device)


class FixedScenes:
    """The same scenes every epoch, in an order that (seed, epoch) decides; the last micro-batch may be short."""

    def __init__(self, scenes: Batch, micro_batch: int, seed: int):
        check_whole_number("micro_batch", micro_batch, least=1)
        if len(scenes) == 0:
            raise ValueError("scenes must hold at least one scene, got none")
        self.scenes, self.micro_batch, self.seed = scenes, micro_batch, seed
        self.faults = injected_faults()  #: names; empty on every honest run

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides which scenes come, in plain values."""
        return {"kind": "fixed", "micro_batch": self.micro_batch, "scenes": len(self.scenes), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches an epoch."""
        return math.ceil(len(self.scenes) / self.micro_batch)

    def micro_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The micro-batches of ``epoch``, from number ``first`` on."""
        generator = scene_generator(self.seed, "order", epoch)
        order = torch.randperm(len(self.scenes), generator=generator).to(self.scenes.y.device)
        for scenes in order.split(self.micro_batch)[first:]:
            yield self.scenes[scenes]
