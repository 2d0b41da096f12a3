"""The pretrained networks that come with the package, and the scenes they are scored on."""

from pathlib import Path
from typing import Annotated

from covlab.arguments import checked, one_of
from covlab.networks.unrolled import UnrolledNet
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.checkpoint import load_parameters, read_checkpoint

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SCORED_SCENES = 2048


Preset = Annotated[str, one_of(PRESETS)]


@checked
def pretrained(name: Preset, scenario: Scenario | None = None) -> UnrolledNet:
    """Load the network trained for the preset ``name``, in evaluation mode.

    Pass a ``scenario`` to use the network without retraining in a variation of the preset, such as another site
    channel or other codes. (It learned to read a grid, not one site channel.)

    Its attribute ``card`` shows how it was made and how well it works: ``command`` (trains it again), ``seconds`` (of
    processor time, one thread), ``scores`` (NMSE of every scene of :func:`scored_scenes`), ``versions``.

    Raises:
        ValueError: there is no such preset.
        CheckpointError: the file is missing or damaged, or does not fit ``scenario``.
    """
    network, path = UnrolledNet(scenario or preset(name)), CHECKPOINTS / f"{name}.pt"
    load_parameters(network, path)
    network.card = read_checkpoint(path)["card"]
    return network.eval()


@checked
def scored_scenes(name: Preset) -> Batch:
    """Draw the scenes on which a card's scores were measured. Nothing was ever trained or chosen on their stream."""
    return Simulator(preset(name)).draw(SCORED_SCENES, scene_generator(0, "score"))
