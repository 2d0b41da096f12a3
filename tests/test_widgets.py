"""Explorers, without a browser: state, picture, words, and what happens when something goes wrong."""

import asyncio
import base64
import inspect
import io
import re
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covlab import widgets
from covlab.course import WIDGET_ERROR
from covlab.loss import Loss, LossWeights, nmse
from covlab.simulator import concatenate
from covlab.widgets import EXPLORERS, LossWeightsExplorer, NMSEExplorer
from covlab.widgets.background import Background
from covlab.widgets.controls import Choice, Number, decades

IMAGE = re.compile(r'<img alt="([^"]+)"[^>]* src="data:image/png;base64,([^"]+)">')


@pytest.fixture
def shown(monkeypatch):
    """What would be displayed in a notebook."""
    contents = []
    monkeypatch.setattr("covlab.plots._display", contents.append)
    monkeypatch.setattr("IPython.display.display", lambda *things, **how: contents.extend(things))
    return contents


@pytest.fixture(scope="module", params=EXPLORERS)
def explorer(request):
    explorer = getattr(widgets, request.param)()
    if hasattr(explorer, "windows"):
        explorer.windows.value = 20
    return explorer


def pixels(image: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(IMAGE.fullmatch(image)[2]))).convert("L"))


# -------------------------------------------------------------------- every explorer


def test_shows_controls_and_a_picture_with_words(explorer, shown):
    explorer.show()
    whole, script = shown
    assert "covlab-explorer" in whole._dom_classes and "application/javascript" in script
    assert len(IMAGE.fullmatch(explorer.picture.value)[1]) > 100
    assert explorer.note.value == ""


def test_every_still_setting_is_a_state_and_gives_another_picture(explorer):
    seen = set()
    for title, setting in explorer.STILLS:
        assert set(setting) <= set(explorer.state), title
        explorer.state = setting
        seen.add(explorer.picture.value)
        assert WIDGET_ERROR not in explorer.note.value
    assert len(seen) >= len(explorer.STILLS) - 1 and 3 <= len(explorer.STILLS) <= 5  # one may be the setting that was there


def test_still_shows_its_settings_with_words(explorer, shown):
    before = explorer.state
    explorer.still()
    assert len(shown) >= len(explorer.STILLS)
    assert all(len(IMAGE.fullmatch(image)[1]) > 80 for image in shown)
    assert explorer.state == before


def test_no_ink_at_the_edges_of_the_picture(explorer):
    """The live picture is saved with fixed margins: a label that does not fit would be cut."""
    for _, setting in explorer.STILLS:
        explorer.state = setting
        dark = pixels(explorer.picture.value) < 160
        edges = {"left": dark[:, :2], "right": dark[:, -2:], "top": dark[:2], "bottom": dark[-2:]}
        assert [name for name, edge in edges.items() if edge.any()] == []


def test_an_unknown_control_or_value_is_refused(explorer):
    with pytest.raises(ValueError, match="state must be of .* got nonsense"):
        explorer.state = {"nonsense": 1}
    name, control = next(iter(explorer.controls.items()))
    with pytest.raises(ValueError, match="must be"):
        explorer.state = {name: 1e9 if isinstance(control, Number) else "nonsense"}


def test_an_error_in_a_callback_is_shown_and_marked(explorer, monkeypatch):
    monkeypatch.setattr(explorer, "draw", lambda state: {}["a <key>"])
    explorer.guarded(explorer.redraw)()
    assert f"{WIDGET_ERROR}=\"KeyError: &#x27;a &lt;key&gt;&#x27;\"" in explorer.note.value and 'role="alert"' in explorer.note.value
    assert "test_widgets.py" in explorer.note.value


def test_names_are_lazy_and_unknown_ones_are_refused():
    with pytest.raises(AttributeError, match="Nonsense"):
        widgets.Nonsense
    assert all(inspect.isclass(getattr(widgets, name)) for name in EXPLORERS)


# -------------------------------------------------------------------- controls


@given(st.lists(st.one_of(st.floats(1e-4, 100), st.sampled_from([0.0, 0.05, 1.0])), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_box_and_slider_stay_alike(values):
    number = Number("λ", 1.0, [0.0, *decades(-4, 2)], words={0: "off"})
    heard = []
    number.observe(lambda: heard.append(number.value))
    for value in values:
        number.value = value
        text, on_slider = number.slider.options[number.slider.index]
        assert on_slider == number.value == value
        assert text == ("off" if value == 0 else f"{value:g}")
    changes = [value for before, value in zip([1.0, *values], values, strict=False) if value != before]
    assert heard == changes  # once for each change
    number.slider.index = 0
    assert number.value == 0


def test_a_choice_refuses_what_it_does_not_offer():
    choice = Choice("optimizer", "sgd", ["sgd", "adamw"])
    choice.value = "adamw"
    with pytest.raises(ValueError, match="optimizer must be one of sgd, adamw, got 'adam'"):
        choice.value = "adam"


# -------------------------------------------------------------------- work in the background


def in_loop(work, **how):
    """Run ``work`` in the background of an event loop; returns (threads that refreshed, errors, the bar's last text)."""
    refreshed, errors = [], []

    async def main():
        background = Background("counting", lambda: refreshed.append(threading.current_thread()), errors.append)
        background.start(work)
        if "stop_after" in how:
            await asyncio.sleep(how["stop_after"])
            background.stop()
        while background.running:
            await asyncio.sleep(0.01)
        return background

    background = asyncio.run(main())
    return refreshed, errors, background


def test_results_come_to_the_front_in_the_kernels_own_thread():
    workers = []

    def work():
        for step in range(5):
            workers.append(threading.current_thread())
            yield step / 5

    refreshed, errors, background = in_loop(work())
    assert set(refreshed) == {threading.main_thread()} and threading.main_thread() not in workers
    assert not errors and 'value="1.000"' in background.bar.value and background.stop_button.disabled


def test_stop_ends_the_work():
    done = threading.Event()

    def work():
        try:
            while True:
                yield 0.5
        finally:
            done.set()

    _, _, background = in_loop(work(), stop_after=0.05)
    assert "stopped" in background.bar.value and done.wait(5)


def test_an_error_in_the_background_comes_to_the_front():
    def work():
        yield 0.1
        raise KeyError("in the thread")

    _, errors, background = in_loop(work())
    assert [type(error) for error in errors] == [KeyError] and not background.running


# -------------------------------------------------------------------- what single explorers say


@given(st.floats(0.05, 100), st.floats(0.05, 100), st.floats(-80, 80), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_nmse_does_not_change_with_scale_and_plain_error_does(one, other, angle, noise):
    explorer = NMSEExplorer()
    R = explorer.frame[0]
    errors = [nmse(explorer.estimate(scale, angle, noise)[None], R[None]).item() for scale in (one, other)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-9, abs=1e-12)


def test_directions_of_the_nmse_explorer_are_at_right_angles():
    R, D, E = NMSEExplorer(seed=3).frame
    for one in (D, E):
        assert torch.linalg.matrix_norm(one - one.mH) < 1e-12 and abs(one.trace()) < 1e-12
        assert torch.linalg.matrix_norm(one) == pytest.approx(1)
    for one, other in ((R, D), (R, E), (D, E)):
        assert abs((one.conj() * other).sum()) < 1e-11 * torch.linalg.matrix_norm(one) * torch.linalg.matrix_norm(other)


def test_a_negative_trace_is_called_nan():
    _, alt = NMSEExplorer().draw({"scale": 1.0, "angle": 120.0, "noise": 0.0})
    assert "NaN" in alt


@given(st.dictionaries(st.sampled_from(list(LossWeights().values())), st.sampled_from([0.0, 0.01, 0.5, 2.0]), max_size=9))
@settings(max_examples=12, deadline=None)
def test_shares_and_gradient_are_those_of_the_weighted_loss(change):
    weights = LossWeights().values() | change | {"lam_cov": 1.0}
    explorer = LossWeightsExplorer()
    explorer.terms = TERMS
    seen = explorer.terms.weighted(weights)
    run = explorer._trainer(weights, 1)
    batch = concatenate(list(run.scenes.micro_batches(0)))
    total = run.losses(batch).total.mean()
    gradients = torch.autograd.grad(total, run.parameters, materialize_grads=True)
    assert seen.loss == pytest.approx(total.item(), rel=1e-5)
    assert seen.norm == pytest.approx(torch.cat([g.flatten() for g in gradients]).norm().item(), rel=1e-3)
    assert sum(seen.loss_shares.values()) == pytest.approx(1)


TERMS = LossWeightsExplorer().terms


def test_the_guard_speaks_when_the_main_weight_is_off_and_nothing_trains():
    explorer = LossWeightsExplorer()
    explorer.state = {"lam_cov": 0.0}
    assert "lam_cov must be above 0" in explorer.note.value and WIDGET_ERROR not in explorer.note.value
    explorer.train()
    assert explorer.runs == [] and "No training" in explorer.note.value
    explorer.state = {"lam_cov": 1.0}
    assert explorer.note.value == ""


def test_training_draws_its_curve_over_earlier_ones():
    explorer = LossWeightsExplorer(windows=20)
    explorer.train()
    explorer.state = {"lam_ortho": 1.0}
    explorer.train()
    assert [name for name, _ in explorer.runs] == ["defaults", "lam_ortho = 1"]
    assert all(run.window == 20 for _, run in explorer.runs)
    assert "defaults" in explorer.curve.value and "lam_ortho = 1" in explorer.curve.value and "done" in explorer.background.bar.value
