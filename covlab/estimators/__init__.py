"""Classical estimators of R, spectra of any R, and the calibration of the channel G.

Call an estimator with a batch and the channel G [M, N]. It returns an estimate with ``covariance()`` and
``nmse(batch)``. Estimators read only the four contract tensors of the batch; only ``Genie`` also reads the truth.
"""

from collections.abc import Callable

from torch import Tensor

from covlab.arguments import checked
from covlab.estimators.classical import MeanCovariance, ledoit_wolf, oas, sample_covariance, scaled_identity
from covlab.estimators.greedy import Genie, GreedyLikelihood, MatchingPursuit
from covlab.estimators.grid import CovarianceFit, GridLikelihood, RefinedGridLikelihood
from covlab.networks.model import Estimate
from covlab.networks.source_grid import DictionaryEstimate, default_grid, default_step
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario

Estimator = Callable[[Batch, Tensor], Estimate | DictionaryEstimate]


@checked
def ladder(scenario: Scenario) -> dict[str, Estimator]:
    """Return {name: estimator} of all estimators, worst first. The last one, the genie, reads the truth."""
    grid = default_grid(scenario)
    return {
        "scaled identity": scaled_identity,
        "mean covariance": MeanCovariance(scenario),
        "sample covariance": sample_covariance,
        "Ledoit-Wolf": ledoit_wolf,
        "OAS": oas,
        "covariance fit, grid": CovarianceFit(grid),
        "matching pursuit, grid": MatchingPursuit(scenario),
        "grid ML, far field": GridLikelihood(default_grid(scenario, near=False)),
        "grid ML": GridLikelihood(grid),
        "grid ML, half the step": GridLikelihood(default_grid(scenario, step=default_step(scenario) / 2)),
        "grid ML, refined": RefinedGridLikelihood(scenario),
        "greedy ML, off grid": GreedyLikelihood(scenario),
        "genie": Genie(scenario),
    }
