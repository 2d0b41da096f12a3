"""Runs that memorize and runs that generalize, and the estimators to compare a network with."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from covlab.arguments import Count, Seed, Text, checked
from covlab.course.reference_band import reference_trainer
from covlab.estimators import Estimator
from covlab.estimators.classical import MeanCovariance, sample_covariance, scaled_identity
from covlab.estimators.greedy import Genie
from covlab.estimators.grid import GridLikelihood
from covlab.estimators.spectra import locate, music
from covlab.metrics import rmspe
from covlab.networks.model import Estimate, Network
from covlab.networks.source_grid import DictionaryEstimate, default_grid, default_step
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.tensor_arguments import Device
from covlab.training.loss import LossWeights
from covlab.training.pretrained import pretrained
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

PIECE = 16  # scenes per MUSIC spectrum: one of all scenes at once would fill the memory


class TrainingForReal:
    """The scenes and runs of one scenario and one seed; every loss is the NMSE alone.

    Args:
        scenario: of all scenes.
        device: where everything is computed.
        seed: of scenes and first parameters.

    Raises:
        ValueError: each scene of ``scenario`` has a channel of its own.
    """

    @checked
    def __init__(self, scenario: Scenario, device: Device = "cpu", seed: Seed = 0):
        self.scenario, self.device, self.seed = scenario, torch.device(device), seed
        self.simulator = Simulator(scenario, device)
        if self.simulator.G is None:
            raise ValueError("scenario must have one channel G for all scenes, got a channel for each scene")
        self.G = self.simulator.G
        self.unseen = self.simulator.draw(512, scene_generator(seed, "validation", device=device))
        self.scenes = self.simulator.draw(512, scene_generator(seed, "overfit", device=device))
        self.fine_grid = default_grid(scenario, step=default_step(scenario) / 2).to(device)

    def with_answers_of_others(self) -> Batch:
        """Return the scenes to memorize, each with the covariance of another one."""
        order = torch.randperm(len(self.scenes), generator=scene_generator(self.seed, "shuffle")).to(self.device)
        inputs = {name: getattr(self.scenes, name)[order] for name in ("y", "H", "codes", "snr_db")}
        return replace(self.scenes, **inputs)

    @checked
    def memorizer(self, scenes: Batch) -> Trainer:
        """Return a trainer that memorizes ``scenes`` in 30 epochs and validates on them."""
        run = reference_trainer("overfit", self.seed, device=str(self.device), scenario=self.scenario)
        run.scenes, run.validation = FixedScenes(scenes, micro_batch=32, seed=self.seed), scenes
        return run

    @checked
    def memorized_and_unseen(self, run: Trainer) -> tuple[float, float]:
        """Return the mean NMSE on the run's own scenes and on unseen ones."""
        memorized = run.evaluate().mean().item()
        run.validation = self.unseen
        return memorized, run.evaluate().mean().item()

    @checked
    def learner(self, network: Callable[[Scenario], Network], windows: Count, codebook: Text | None = None) -> Trainer:
        """Return a trainer that sees fresh scenes in every window, and validates on held-out ones.

        codebook: of the scenes; None: that of the scenario. On a GPU the scenario is larger and takes longer to learn:
        there the run has five times as many windows.
        """
        scenario = replace(self.scenario, codebook=codebook) if codebook else self.scenario
        torch.manual_seed(self.seed)
        fresh = FreshScenes(Simulator(scenario, self.device), micro_batch=32, micro_batches=200, seed=self.seed)
        model, held_out = network(scenario).to(self.device), fresh.held_out(16)
        recipe = Recipe(windows=windows if self.device.type == "cpu" else 5 * windows)
        return Trainer(model, fresh, held_out, recipe, LossWeights.only(lam_cov=1.0), progress=Silent())

    def best_constant(self) -> float:
        """Return the mean NMSE of the best answer that ignores the snapshots, the mean covariance."""
        return MeanCovariance(self.scenario)(self.unseen, self.G).nmse(self.unseen).mean().item()

    @checked
    def ladder(self, trained: Network, scenes: Batch) -> dict[str, Estimate | DictionaryEstimate]:
        """Return the estimates of seven estimators, from the simplest to the best; ``trained`` is one of them."""
        shipped = pretrained(self.scenario.name).to(self.device).eval()
        estimators: dict[str, Estimator] = {
            "scaled identity": scaled_identity,
            "mean covariance": MeanCovariance(self.scenario),
            "back-projected samples": sample_covariance,
            "network, trained here": _estimator_of(trained.eval()),
            "grid maximum likelihood": GridLikelihood(default_grid(self.scenario).to(self.device)),
            "network, shipped": _estimator_of(shipped),
            "positions given": Genie(self.scenario),
        }
        with torch.no_grad():
            return {name: estimator(scenes, self.G) for name, estimator in estimators.items()}

    @checked
    def music(self, R: Tensor, scenes: Batch) -> Tensor:
        """Return the MUSIC spectrum of each scene over the fine grid, from its covariance [B, N, N] -> [B, G]."""
        return music(R, scenes.source_count, self.fine_grid.steering)

    @checked
    def direction_error(self, R: Tensor, scenes: Batch) -> float:
        """Return the angle from a source to the MUSIC peak that is taken for it, in degrees: the median over scenes of
        the RMS over sources.
        """
        most = self.scenario.max_sources
        pieces = zip(R.split(PIECE), scenes.source_count.split(PIECE), strict=True)
        spectra = (music(piece, count, self.fine_grid.steering) for piece, count in pieces)
        found = torch.cat([locate(spectrum, self.fine_grid, most) for spectrum in spectra])
        found[torch.arange(most, device=R.device) >= scenes.source_count.unsqueeze(1)] = torch.nan
        found[..., 2] = 1  # with everything moved to one meter, a distance is an angle in radians
        at_one_meter = replace(scenes, range_m=torch.ones_like(scenes.range_m))
        return rmspe(found, at_one_meter).median().rad2deg().item()


def _estimator_of(model: Network) -> Estimator:
    return lambda batch, G: model(batch.y, batch.H, batch.codes, batch.snr_db)
