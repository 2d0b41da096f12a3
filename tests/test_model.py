"""Contract and estimates of the networks."""

import pytest
import torch
from torch import Tensor

from covlab.networks.model import BackProjectionNet, Estimate, SnapshotConvNet, beam_powers
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import nmse

STUDENT = preset("student")
NETWORKS = (BackProjectionNet, SnapshotConvNet)
Network = BackProjectionNet | SnapshotConvNet


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return request.param(STUDENT)


def batch_of(scenes: int, scenario: Scenario = STUDENT) -> Batch:
    return Simulator(scenario).draw(scenes, scene_generator(0, "test"))


def contract(batch: Batch) -> dict[str, Tensor]:
    return {"y": batch.y, "H": batch.H, "codes": batch.codes, "snr_db": batch.snr_db}


def test_estimate_is_hermitian_and_positive_definite(network: Network) -> None:
    R = network(**contract(batch_of(16))).covariance().detach()
    assert R.shape == (16, 16, 16)
    assert torch.allclose(R, R.mH, atol=1e-6)
    assert torch.linalg.eigvalsh(R).min() > 0


def test_error_from_factors_is_the_error_of_the_matrices(network: Network) -> None:
    batch = batch_of(32)
    estimate = network(**contract(batch))
    assert torch.allclose(estimate.nmse(batch), nmse(estimate.covariance(), batch.covariance()), atol=2e-6)
    exact = Estimate(batch.factor(), torch.zeros(32))
    assert exact.nmse(batch).abs().max() < 2e-6


def test_untrained_network_knows_nothing(network: Network) -> None:
    batch = batch_of(512)
    assert network(**contract(batch)).nmse(batch).mean() > 0.9


def test_scenes_do_not_look_at_each_other(network: Network) -> None:
    batch = batch_of(8)
    together = network.eval()(**contract(batch)).factor
    alone = torch.cat([network(**contract(batch[i : i + 1])).factor for i in range(8)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("elements", [1, 7, 8, 9, 30])  # below, at and above the size at which the formula changes
@pytest.mark.parametrize("half", [False, True])
def test_beam_powers_are_the_mean_squares_of_the_beams_outputs(elements: int, half: bool) -> None:
    generator = torch.Generator().manual_seed(elements)
    snapshots = torch.randn(3, 4, elements, dtype=torch.complex64, generator=generator)
    beams = torch.randn(5, elements, dtype=torch.complex64, generator=generator, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        powers = beam_powers(snapshots, beams)
    expected = torch.einsum("cn,bln->blc", beams, snapshots).abs().square().mean(dim=1)
    torch.testing.assert_close(powers, expected, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(each.log().sum(), beams)[0] for each in (powers, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_back_projection_reads_the_product_of_snapshots_and_codes() -> None:
    """A phase common to y does nothing; codes of other scenes spoil everything the snapshots said."""
    torch.manual_seed(0)
    network, batch = BackProjectionNet(STUDENT), batch_of(64)
    inputs = contract(batch)
    turned = torch.view_as_real(torch.view_as_complex(inputs["y"]) * torch.exp(torch.tensor(0.7j)))
    assert torch.allclose(network(**inputs).factor, network(**(inputs | {"y": turned})).factor, atol=1e-4)
    swapped = network(**(inputs | {"codes": inputs["codes"].roll(1, dims=0)})).factor
    assert not torch.allclose(network(**inputs).factor, swapped, atol=1e-2)


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_is_real_and_gets_a_gradient(network: Network, name: str) -> None:
    scenario = preset(name)
    network, batch = type(network)(scenario), batch_of(4, scenario)
    network(**contract(batch)).nmse(batch).sum().backward()
    assert all(not p.is_complex() and p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("tensor", ["y", "H", "codes", "snr_db"])
def test_contract_names_the_tensor_that_breaks_it(network: Network, tensor: str) -> None:
    scenario = preset("near_field")  # at student size N = L = 16, and codes with both swapped have the right shape
    network, inputs = type(network)(scenario), contract(batch_of(4, scenario))
    swapped = inputs[tensor].transpose(1, 2) if inputs[tensor].ndim > 1 else inputs[tensor].unsqueeze(1)
    with pytest.raises(ValueError, match=rf"^{tensor} must be \[B.*got \[{', '.join(map(str, swapped.shape))}\]"):
        network(**(inputs | {tensor: swapped}))
    with pytest.raises(ValueError, match=rf"^{tensor} must be torch.float32, got torch.float64"):
        network(**(inputs | {tensor: inputs[tensor].double()}))


def test_half_precision_runs_the_real_layers_only(network: Network) -> None:
    batch = batch_of(8)
    full = network(**contract(batch))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(**contract(batch))
    assert half.factor.dtype == torch.complex64 and half.loading.dtype == torch.float32
    assert not torch.equal(half.factor, full.factor)
    assert torch.allclose(half.nmse(batch), full.nmse(batch), atol=0.02)
