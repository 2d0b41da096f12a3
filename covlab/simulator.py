"""Scenes behind a RIS: sources, steering vectors, codes, snapshots.

    y_l = G diag(c_l) x_l + n_l,   x_l = A s_l,   E[s sᴴ] = P,   n_l ~ CN(0, σ²I),   R = A P Aᴴ

Symbols s_l are drawn anew for every snapshot l, so that L snapshots carry L looks at R. R is the population
covariance: noise-free, not the one realized by these L symbols.

What y holds is true: the channel G, what every element of the surface really reflects. What the receiver is told,
``codes`` and ``H``, is what it believes: the codes it asked for, and H_l = Ĝ c_l. The two differ only where the
scenario says so (calibration error, faulty elements), and a network or estimator sees the belief alone.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from covlab.scenario import Scenario, check_whole_number
from covlab.seams import injected_faults, take_seams
from covlab.site import (
    believed_site,
    codebook,
    faulty_elements,
    fresh_site_channels,
    miscalibrated,
    phasors,
    site_channel,
    steering_vectors,
    to_surface_phases,
)

CONTRACT = ("y", "H", "codes", "snr_db")
"""The tensors of a batch that a network may read."""

CACHE_BYTES = 2**21
"""About one core's second-level cache."""


@dataclass(frozen=True)
class Batch:
    """B scenes: the four contract tensors a network may read, and the truth behind them.

    Real pairs stand at the border (last axis: real, imaginary part); complex numbers inside.
    Slots of absent sources (K < K_max) have power 0.
    """

    y: Tensor  #: snapshots at the BS [B, L, M, 2]
    H: Tensor  #: effective channel Ĝ c_l of each snapshot, as the receiver believes it [B, L, M, 2]
    codes: Tensor  #: RIS phase codes c_l, as asked for [B, L, N, 2]
    snr_db: Tensor  #: signal-to-noise ratio in dB [B]
    weight: Tensor  #: weight of each scene in any mean over scenes; 1 as drawn [B]
    noise_power: Tensor  #: σ² [B]
    azimuth: Tensor  #: φ in radians [B, K_max]
    elevation: Tensor  #: θ in radians [B, K_max]
    range_m: Tensor  #: r in metres [B, K_max]
    power: Tensor  #: source powers, such that tr(R) = N; so they sum to 1 where sources are uncorrelated [B, K_max]
    steering: Tensor  #: A, complex, ‖a_k‖² = N [B, N, K_max]
    #: W, complex, W Wᴴ the sources' correlation [B, K_max, K_max]; None: uncorrelated, W = I
    mixing: Tensor | None = None

    def __post_init__(self) -> None:
        scenes, snapshots, antennas = _shape_of("y", self.y, "[B, L, M, 2]")[:3]
        elements = _shape_of("codes", self.codes, "[B, L, N, 2]")[2]
        sources = _shape_of("power", self.power, "[B, K_max]")[1]
        expected: dict[str, tuple[int, ...]] = {
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
        if self.mixing is not None:
            expected["mixing"] = (scenes, sources, sources)
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(
                    f"Batch.{name} must be {list(shape)} beside y {list(self.y.shape)}, got "
                    f"{list(getattr(self, name).shape)}"
                )

    def __len__(self) -> int:
        return self.y.shape[0]

    def __getitem__(self, scenes: slice | Tensor) -> "Batch":
        """The chosen scenes, by slice or by index tensor [b]."""
        return self._each(lambda tensor: tensor[scenes])

    def to(self, device: str | torch.device) -> "Batch":
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: function(tensor) for name, tensor in tensors.items() if tensor is not None})

    @property
    def source_count(self) -> Tensor:
        """K of each scene [B]."""
        return (self.power > 0).sum(dim=1)

    def factor(self) -> Tensor:
        """F = A diag(p)^½ W, so that R = F Fᴴ [B, N, K_max]."""
        factor = self.steering * self.power.sqrt().unsqueeze(1)
        return factor if self.mixing is None else factor @ self.mixing

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
    columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(Batch)}
    absent = [tensor is None for tensor in columns["mixing"]]
    if any(absent) != all(absent):
        raise ValueError("batches must all have correlated sources or none of them, got both")
    return Batch(**{name: torch.cat(tensors) for name, tensors in columns.items() if tensors[0] is not None})


def scene_generator(seed: int, stream: str, *index: int, device: str | torch.device = "cpu") -> torch.Generator:
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


class Simulator:
    """Draws scenes of one scenario on one device.

    Whatever an imperfection of the scenario needs at random is drawn last: with the same generator the same sources,
    codes, symbols and noise come with and without it.

    Args:
        scenario: what to draw.
        device: where the scenes are made, random numbers included.
        dtype: complex64, or complex128 for tests.
    """

    def __init__(
        self, scenario: Scenario, device: str | torch.device = "cpu", dtype: torch.dtype = torch.complex64
    ) -> None:
        if dtype not in (torch.complex64, torch.complex128):
            raise ValueError(f"dtype must be torch.complex64 or torch.complex128, got {dtype}")
        self.scenario = scenario
        self.device = torch.device(device)
        self.dtype = dtype
        known = scenario.site == "fixed"
        self.G = (
            self._own(site_channel(scenario)) if known else None
        )  #: the true channel [M, N]; None: every scene has its own
        self.believed = self._own(believed_site(scenario)) if known else None  #: Ĝ, which makes H [M, N]; None likewise
        codes = codebook(scenario)
        self.codebook = None if codes is None else self._own(codes)  #: what codes come from [·, N]; None: at random
        faulty, reflection = faulty_elements(scenario)
        self.faulty = faulty.to(self.device) if faulty.any() else None  #: which elements are [N]; None: all work
        self.reflection = self._own(reflection)  #: what the faulty ones reflect [N]
        take_seams(self)

    def draw(self, scenes: int, generator: torch.Generator) -> Batch:
        """``scenes`` scenes from ``generator``; the same state of it gives the same batch (on one kind of device).

        Raises:
            ValueError: ``scenes`` is not a positive whole number, or the generator is on another device.
        """
        check_whole_number("scenes", scenes, least=1)
        if generator.device.type != self.device.type:
            raise ValueError(f"generator must be on {self.device}, got one on {generator.device}")
        s, B, K = self.scenario, scenes, self.scenario.max_sources
        azimuth, elevation = self._uniform(s.azimuth, generator, B, K), self._uniform(s.elevation, generator, B, K)
        range_m, power = self._uniform(s.range_m, generator, B, K), self._uniform(s.power, generator, B, K)
        snr_db = self._uniform(s.snr_db, generator, B)
        count = torch.randint(1, K + 1, (B, 1), generator=generator, device=self.device)
        power = power * (torch.arange(K, device=self.device) < count)
        power = power / power.sum(dim=1, keepdim=True)
        return self.observe(azimuth, elevation, range_m, power, snr_db, generator)

    def observe(
        self,
        azimuth: Tensor,
        elevation: Tensor,
        range_m: Tensor,
        power: Tensor,
        snr_db: Tensor,
        generator: torch.Generator,
    ) -> Batch:
        """Scenes with sources at given places [B, K_max] each, in radians and metres, of powers that sum to 1; snr_db
        [B].
        """
        s, B = self.scenario, len(snr_db)
        steering = steering_vectors(s, azimuth, elevation, range_m).mT
        codes = self.codes(B, generator)
        symbols, noise = self.symbols(B, generator), self._normal(generator, B, s.snapshots, s.bs_antennas)
        mixing = self.mixing(B, generator)
        G, believed = self.site(B, generator)

        factor = steering * power.sqrt().unsqueeze(1)
        if mixing is not None:
            # Correlated waves add up or cancel at the surface; powers are scaled to tr(R) = N all the same.
            factor = factor @ mixing
            level = torch.view_as_real(factor).square().sum(dim=(1, 2, 3)) / s.ris_elements
            factor, power = factor / level.sqrt().view(-1, 1, 1), power / level.unsqueeze(1)
        signal, signal_power = self._arrive(G, self.reflected(codes), factor, symbols)
        noise_power = signal_power / 10 ** (snr_db / 10)
        y = signal + noise * noise_power.sqrt().view(B, 1, 1)
        return Batch(
            y=torch.view_as_real(y),
            H=torch.view_as_real(codes @ believed.mT),
            codes=torch.view_as_real(codes),
            snr_db=snr_db,
            weight=torch.ones_like(snr_db),
            noise_power=noise_power,
            azimuth=azimuth,
            elevation=elevation,
            range_m=range_m,
            power=power,
            steering=steering,
            mixing=mixing,
        )

    def codes(self, scenes: int, generator: torch.Generator) -> Tensor:
        """c_l, the codes that are asked of the surface, unit modulus [B, L, N]."""
        s = self.scenario
        if self.codebook is None:
            phase = self._uniform((0.0, 2 * math.pi), generator, scenes, s.snapshots, s.ris_elements)
            return phasors(to_surface_phases(s, phase))
        if s.codebook == "fixed":
            return self.codebook.repeat(scenes, 1, 1)
        order = torch.rand(scenes, s.ris_elements, generator=generator, device=self.device).argsort(dim=1)
        return self.codebook[order[:, : s.snapshots]]

    def reflected(self, codes: Tensor) -> Tensor:
        """What the surface does when asked for ``codes`` [..., N]: faulty elements do what they can."""
        return codes if self.faulty is None else torch.where(self.faulty, self.reflection, codes)

    def symbols(self, scenes: int, generator: torch.Generator) -> Tensor:
        """s_l ~ CN(0, 1), drawn anew for every source and snapshot [B, L, 1, K_max]."""
        shape = (scenes, self.scenario.snapshots, 1, self.scenario.max_sources)
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def mixing(self, scenes: int, generator: torch.Generator) -> Tensor | None:
        """W, a root of the sources' correlation: W Wᴴ = D ((1 − ρ) I + ρ 11ᵀ) Dᴴ, with D the phases e^jψ_k and ψ_1 = 0.

        Returns:
            [B, K_max, K_max]; None where sources are uncorrelated.
        """
        s, K = self.scenario, self.scenario.max_sources
        if s.source_correlation == 0:
            return None
        phase = self._uniform(s.correlation_phase, generator, scenes, K)
        phase[:, 0] = 0
        own, common = (
            math.sqrt(1 - s.source_correlation),
            math.sqrt(1 - s.source_correlation + K * s.source_correlation),
        )
        root = (
            own * torch.eye(K, device=self.device, dtype=self.dtype) + (common - own) / K
        )  # eigenvalues: common once, own K − 1 times
        return phasors(phase).unsqueeze(2) * root

    def site(self, scenes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """G and Ĝ of these scenes: [M, N] each, or [B, M, N] where every scene has its own."""
        s = self.scenario
        if self.G is not None and self.believed is not None:
            return self.G, self.believed
        G = self._own(fresh_site_channels(s, scenes, generator))
        return G, G if s.calibration_error_db is None else miscalibrated(s, G, self._normal(generator, *G.shape))

    def _arrive(self, G: Tensor, codes: Tensor, factor: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """What reaches the antennas but for the noise [B, L, M], and the mean over (l, m) of its expected power [B]."""
        # On a CPU in pieces that stay in its cache: fresh memory for all scenes' products would cost as much as the
        # products.
        products = codes[0].numel() * factor.shape[2] * codes.element_size()
        piece = max(1, CACHE_BYTES // products) if self.device.type == "cpu" else len(codes)
        sites = itertools.repeat(G.mT) if G.ndim == 2 else G.mT.unsqueeze(1).split(piece)
        signals, powers = [], []
        for site, code, columns, symbol in zip(
            sites, codes.split(piece), factor.mT.unsqueeze(1).split(piece), symbols.split(piece), strict=False
        ):
            arrivals = (code.unsqueeze(2) * columns) @ site  # what each column of F alone would bring [b, L, K, M]
            signals.append((symbol @ arrivals).squeeze(2))
            powers.append(torch.view_as_real(arrivals).square().flatten(1).sum(dim=1) / arrivals[0, :, 0].numel())
        return torch.cat(signals), torch.cat(powers)

    def _own(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)

    def _uniform(self, bounds: tuple[float, float], generator: torch.Generator, *shape: int) -> Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(
            *shape, generator=generator, device=self.device, dtype=self.dtype.to_real()
        )

    def _normal(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=self.device, dtype=self.dtype)


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

    def micro_batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The micro-batches of ``epoch`` from number ``first`` on, up to but not including ``stop``."""
        for index in range(first, len(self) if stop is None else stop):
            yield self.simulator.draw(self.micro_batch, self.generator("training", epoch, index))

    def held_out(self, micro_batches: int) -> Batch:
        """So many micro-batches for validation, from a stream of their own: never any of training's."""
        check_whole_number("micro_batches", micro_batches, least=1)
        return concatenate(
            [
                self.simulator.draw(self.micro_batch, self.generator("validation", 0, index))
                for index in range(micro_batches)
            ]
        )

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
        self._kept: tuple[int | None, tuple[Tensor, ...]] = (None, ())

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides which scenes come, in plain values."""
        return {"kind": "fixed", "micro_batch": self.micro_batch, "scenes": len(self.scenes), "seed": self.seed}

    def __len__(self) -> int:
        """Micro-batches an epoch."""
        return math.ceil(len(self.scenes) / self.micro_batch)

    def micro_batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The micro-batches of ``epoch`` from number ``first`` on, up to but not including ``stop``."""
        for scenes in self._order(epoch)[first:stop]:
            yield self.scenes[scenes]

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        """Which scenes each micro-batch of ``epoch`` holds; kept until another epoch is asked for."""
        if self._kept[0] != epoch:
            generator = scene_generator(self.seed, "order", epoch)
            order = torch.randperm(len(self.scenes), generator=generator).to(self.scenes.y.device)
            self._kept = epoch, order.split(self.micro_batch)
        return self._kept[1]
