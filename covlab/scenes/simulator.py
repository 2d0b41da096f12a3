"""Scenes behind a RIS: sources, steering vectors, codes, snapshots.

    y_l = G diag(c_l) x_l + n_l,   x_l = A s_l,   E[s sᴴ] = P,   n_l ~ CN(0, σ²I),   R = A P Aᴴ

Every snapshot l has new symbols s_l. R is the population covariance: it contains no noise, and is not the sample
covariance of these L symbols.

y comes from the true channel G and from what the RIS elements really reflect. The receiver, and so a network or
estimator, knows the codes it asked for and H_l = Ĝ c_l. They differ from the truth only if the scenario has a
calibration error or faulty elements.
"""

import itertools
import math
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from covlab.arguments import Index, Seed, Text, checked, one_of, whole_number
from covlab.scenes.batch import Batch
from covlab.scenes.channel import believed_channel, fresh_site_channels, miscalibrated, site_channel
from covlab.scenes.codebook import codebook, faulty_elements, to_surface_phases
from covlab.scenes.geometry import phasors, steering_vectors
from covlab.scenes.scenario import Scenario
from covlab.seams import take_seams
from covlab.tensor_arguments import Device, tensor

CACHE_BYTES = 2**20
"""About half of one core's second-level cache: what a product is made of has to fit, too."""

MOST_NUMBERS = 2**31
"""The most codes in a batch: 16 GiB in single precision."""

Sources = Annotated[Tensor, tensor("B K_max")]


@checked
def scene_generator(seed: Seed, stream: Text, *index: Index, device: Device = "cpu") -> torch.Generator:
    """Return a random generator for one independent part of the scenes.

    ``stream`` names their purpose ("training", "validation", …), and ``index`` the part (epoch, micro-batch). Different
    (seed, stream, index) give unrelated scenes, even if the seeds are neighbors (as in NumPy's SeedSequence).

    Raises:
        ValueError: an argument is not what its annotation allows, such as a negative seed.
    """
    key = (*stream.encode(), 0, *index)
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) - 2**63)


class Simulator:
    """Draws scenes of one scenario on one device.

    Random numbers for imperfections of the scenario are drawn last. So the same generator gives the same sources,
    codes, symbols and noise with and without imperfections.

    Args:
        scenario: the scenario of the scenes.
        device: device of the scenes and their random numbers.
        dtype: complex64, or complex128 for tests.

    Raises:
        ValueError: ``dtype`` is neither of these, or the device is not there.
    """

    @checked
    def __init__(
        self,
        scenario: Scenario,
        device: Device = "cpu",
        dtype: Annotated[torch.dtype, one_of((torch.complex64, torch.complex128))] = torch.complex64,
    ) -> None:
        self.scenario, self.device, self.dtype = scenario, torch.device(device), dtype
        known = scenario.site == "fixed"
        self.G = self._own(site_channel(scenario)) if known else None  #: [M, N]; None: every scene has its own
        self.believed = self._own(believed_channel(scenario)) if known else None  #: Ĝ, which makes H [M, N]; or None
        codes = codebook(scenario)
        self.codebook = None if codes is None else self._own(codes)  #: [·, N]; None: codes are random
        faulty, reflection = faulty_elements(scenario)
        self.faulty = faulty.to(self.device) if faulty.any() else None  #: mask [N]; None: all work
        self.reflection = self._own(reflection)  #: of the faulty elements [N]
        take_seams(self)

    @checked
    def draw(self, scenes: int, generator: torch.Generator) -> Batch:
        """Draw ``scenes`` scenes; the same state of ``generator`` gives the same batch (on one kind of device).

        Raises:
            ValueError: ``scenes`` is not positive or is too large, or the generator is on another device.
        """
        codes_per_scene = self.scenario.snapshots * self.scenario.ris_elements
        whole_number(1, MOST_NUMBERS // codes_per_scene).check("scenes", scenes)
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

    @checked
    def observe(
        self,
        azimuth: Sources,
        elevation: Sources,
        range_m: Sources,
        power: Sources,
        snr_db: Annotated[Tensor, tensor("B")],
        generator: torch.Generator,
    ) -> Batch:
        """Draw scenes with given sources [B, K_max] each, in radians and metres, and snr_db [B]; powers sum to 1."""
        s, B = self.scenario, len(snr_db)
        steering = steering_vectors(s, azimuth, elevation, range_m).mT
        codes = self.codes(B, generator)
        symbols, noise = self.symbols(B, generator), self._normal(generator, B, s.snapshots, s.bs_antennas)
        mixing = self.mixing(B, generator)
        G, believed = self.channel(B, generator)

        factor = steering * power.sqrt().unsqueeze(1)
        if mixing is not None:
            # Correlated waves add up or cancel at the RIS, so scale the powers again to tr(R) = N.
            factor = factor @ mixing
            level = torch.view_as_real(factor).square().sum(dim=(1, 2, 3)) / s.ris_elements
            factor, power = factor / level.sqrt().view(-1, 1, 1), power / level.unsqueeze(1)
        signal, total_power = self._arrive(G, self.reflected(codes), factor, symbols)
        noise_power = total_power / (s.snapshots * s.bs_antennas) / 10 ** (snr_db / 10)
        y = noise.mul_(noise_power.sqrt().view(B, 1, 1)).add_(signal)
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
        """Draw c_l, the codes asked of the RIS, of unit modulus [B, L, N]."""
        s = self.scenario
        if self.codebook is None:
            return self._random_codes(scenes, generator)
        if s.codebook == "fixed":
            return self.codebook.repeat(scenes, 1, 1)
        order = torch.rand(scenes, s.ris_elements, generator=generator, device=self.device).argsort(dim=1)
        return self.codebook[order[:, : s.snapshots]]

    def reflected(self, codes: Tensor) -> Tensor:
        """Return what the RIS reflects when asked for ``codes`` [..., N]."""
        return codes if self.faulty is None else torch.where(self.faulty, self.reflection, codes)

    def symbols(self, scenes: int, generator: torch.Generator) -> Tensor:
        """Draw s_l ~ CN(0, 1) for every source and snapshot [B, L, 1, K_max]."""
        shape = (scenes, self.scenario.snapshots, 1, self.scenario.max_sources)
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def mixing(self, scenes: int, generator: torch.Generator) -> Tensor | None:
        """Draw a root W of the sources' correlation [B, K_max, K_max]; None if they are uncorrelated.

        W Wᴴ = D ((1 − ρ) I + ρ 11ᵀ) Dᴴ, where D has the phases e^jψ_k and ψ_1 = 0.
        """
        s, K = self.scenario, self.scenario.max_sources
        if s.source_correlation == 0:
            return None
        phase = self._uniform(s.correlation_phase, generator, scenes, K)
        phase[:, 0] = 0
        # W has the eigenvalue ``common`` once, and ``own`` K − 1 times.
        own = math.sqrt(1 - s.source_correlation)
        common = math.sqrt(1 - s.source_correlation + K * s.source_correlation)
        root = own * torch.eye(K, device=self.device, dtype=self.dtype) + (common - own) / K
        return phasors(phase).unsqueeze(2) * root

    def channel(self, scenes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return G and Ĝ of these scenes: [M, N] each, or [B, M, N] if every scene has its own."""
        s = self.scenario
        if self.G is not None and self.believed is not None:
            return self.G, self.believed
        G = self._own(fresh_site_channels(s, scenes, generator))
        return G, G if s.calibration_error_db is None else miscalibrated(s, G, self._normal(generator, *G.shape))

    def _random_codes(self, scenes: int, generator: torch.Generator) -> Tensor:
        s = self.scenario
        L, N = s.snapshots, s.ris_elements
        piece = self._piece(L * N)

        def phases(count: int) -> Tensor:
            return to_surface_phases(s, self._uniform((0.0, 2 * math.pi), generator, count, L, N))

        if scenes <= piece:
            return phasors(phases(scenes))
        codes = torch.empty(scenes, L, N, device=self.device, dtype=self.dtype)
        for part in codes.split(piece):
            phasors(phases(len(part)), out=part)
        return codes

    def _arrive(self, G: Tensor, codes: Tensor, factor: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signals at the antennas [B, L, M], and the sum over (l, m) of their expected power [B]."""
        (B, L, N), K = codes.shape, factor.shape[2]
        channel, columns = G.mT if G.ndim == 2 else G.mT.unsqueeze(1), factor.mT.unsqueeze(1)
        piece = self._piece(L * N * K)
        if piece >= B:
            return arrive(channel, codes.unsqueeze(2) * columns, symbols)
        products = codes.new_empty(piece, L, K, N)  # all pieces write into the same memory
        channels = itertools.repeat(channel) if G.ndim == 2 else channel.split(piece)
        parts = zip(channels, codes.unsqueeze(2).split(piece), columns.split(piece), symbols.split(piece), strict=False)
        arrived = [
            arrive(through, torch.mul(code, column, out=products[: len(code)]), symbol)
            for through, code, column, symbol in parts
        ]
        signals, powers = zip(*arrived, strict=True)
        return torch.cat(signals), torch.cat(powers)

    def _piece(self, numbers: int) -> int:
        """Return how many scenes to compute at once, if each needs this many complex numbers.

        On a CPU, pieces stay in its cache: new memory for a whole batch would cost as much as the arithmetic on it.
        """
        if self.device.type != "cpu":
            return MOST_NUMBERS
        return max(1, CACHE_BYTES // (numbers * self.dtype.itemsize))

    def _own(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)

    def _uniform(self, bounds: tuple[float, float], generator: torch.Generator, *shape: int) -> Tensor:
        low, high = bounds
        real = self.dtype.to_real()
        numbers = torch.empty(shape, device=self.device, dtype=real)
        return numbers.uniform_(0, high - low, generator=generator).add_(low)

    def _normal(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=self.device, dtype=self.dtype)


def arrive(channel: Tensor, products: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Return signals [B, L, M] and the sums of their expected powers [B] at the antennas.

    ``products`` are the codes times the columns of F [B, L, K_max, N], and ``channel`` is Gᵀ.
    """
    arrivals = products @ channel  # of each column of F alone [B, L, K_max, M]
    pairs = torch.view_as_real(arrivals).flatten(1)
    return (symbols @ arrivals).squeeze(2), (pairs * pairs).sum(dim=1)  # a norm would add them up less exactly
