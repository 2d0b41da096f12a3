"""Explorers, without a browser: state, picture, words and errors."""

import asyncio
import base64
import gc
import html
import inspect
import io
import math
import multiprocessing
import random
import re
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from covlab import plots, widgets
from covlab.course import WIDGET_ERROR
from covlab.course.lesson_failures import VIEW
from covlab.faults import FAULTS
from covlab.faults.small_run import small_run
from covlab.scenes.batch import concatenate
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import LossWeights, nmse
from covlab.training.trainer import Trainer
from covlab.widgets import (
    EXPLORERS,
    Explorer,
    FaultMuseumExplorer,
    LossScaleExplorer,
    LossWeightsExplorer,
    NMSEExplorer,
    ScalingBugExplorer,
    SceneExplorer,
    dashboard,
    loss_weights,
)
from covlab.widgets.background import KEPT, Background, TrainingExplorer, Work, reached
from covlab.widgets.controls import ChoiceControl, NumberControl, decades
from covlab.widgets.loss_scale import scaled

IMAGE = re.compile(r'<img alt="([^"]+)"[^>]* src="data:image/png;base64,([^"]+)">')


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what a notebook would display."""
    contents: list[Any] = []
    monkeypatch.setattr("covlab.plots._display", contents.append)
    monkeypatch.setattr("IPython.display.display", lambda *things, **how: contents.extend(things))
    return contents


@pytest.fixture(scope="module", params=EXPLORERS)
def explorer(request: pytest.FixtureRequest) -> Explorer:
    explorer = getattr(widgets, request.param)()
    if hasattr(explorer, "windows"):
        explorer.windows.value = 20
    return explorer


def parts(image: str) -> tuple[str, str]:
    """Return the words and the bytes of an image in HTML."""
    found = IMAGE.search(image)
    assert found is not None
    return found[1], found[2]


def pixels(image: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(parts(image)[1]))).convert("L"))


# -------------------------------------------------------------------- every explorer


def test_shows_controls_and_a_picture_with_words(explorer: Explorer, shown: list[Any]) -> None:
    explorer.show()
    script, still, live = shown
    assert "application/javascript" in script
    assert set(live) - {"text/plain"} == {VIEW}, "a notebook that is opened again would ignore a still in this output"
    assert explorer.picture.value in still["text/html"] and "Run this cell to use it." in still["text/html"]
    assert len(parts(explorer.picture.value)[0]) > 100
    assert WIDGET_ERROR not in explorer.note.value
    labels = [control.label for control in explorer.controls.values()]
    words = " ".join([explorer.title, *labels, still["text/html"]])
    assert not re.search(r"\bclean\b", re.sub(r'src="[^"]+"', "", words))


# Settings of each explorer that look different.
SETTINGS: dict[str, list[dict]] = {
    "NMSEExplorer": [
        {"scale": 2.0, "angle": 0.0, "noise": 0.0},
        {"scale": 10.0, "angle": 40.0, "noise": 0.0},
        {"scale": 1.0, "angle": 40.0, "noise": 0.5},
        {"scale": 1.0, "angle": 100.0, "noise": 0.0},
    ],
    "LossWeightsExplorer": [
        {},
        dict.fromkeys(LossWeights().values(), 0.0) | {"lam_cov": 1.0},
        {"lam_ortho": 1.0},
        {"lam_subspace_align": 0.000123456},  # the longest name
    ],
    "LossScaleExplorer": [{"scale": 0.0}, {"scale": 28.0}, {"scale": 16.0, "growth": 4.0}],
    "ScalingBugExplorer": [
        {"bug": "on", "optimizer": "adamw", "clip": 0.0},
        {"bug": "on", "optimizer": "sgd", "clip": 1.0},
        {"bug": "on", "optimizer": "adamw", "clip": 1.0, "accumulation": 1.0},
    ],
    "FaultMuseumExplorer": [
        {"fault": name} for name in ("division_in_debug_block", "clip_before_unscale", "validation_in_training")
    ],
    "SceneExplorer": [
        {"azimuth": 20.0, "range": 0.7, "R of": "true R"},
        {"azimuth": -25.0, "range": 10.0, "R of": "true R"},
        {"azimuth": 20.0, "range": 0.7, "snr": -5.0, "R of": "sample covariance"},
    ],
}


def test_every_setting_has_its_own_picture_with_large_letters_and_nothing_is_cut_off(
    explorer: widgets.Explorer,
) -> None:
    """The live picture is saved with fixed margins: a label that does not fit would leave ink at the edge."""
    seen = set()
    for setting in SETTINGS[type(explorer).__name__]:
        explorer.state = setting
        if not setting or not explorer.picture.value:  # the explorer already has this state
            explorer.redraw()
        assert WIDGET_ERROR not in explorer.note.value
        dark = pixels(explorer.picture.value) < 160
        edges = {"left": dark[:, :2], "right": dark[:, -2:], "top": dark[:2], "bottom": dark[-2:]}
        assert [name for name, edge in edges.items() if edge.any()] == [], setting
        figures = [explorer.draw(explorer.state)[0]]
        if isinstance(explorer, LossWeightsExplorer):
            figures.append(explorer._curves()[0])
        texts = [each for figure in figures for each in figure.findobj(Text) if each.get_text().strip()]
        assert min(float(each.get_fontsize()) for each in texts) * plots.DPI / 72 >= 11
        seen.add(explorer.picture.value)
    assert len(seen) == len(SETTINGS[type(explorer).__name__])


def test_the_still_of_a_setting_has_words_and_moves_no_control(explorer: widgets.Explorer, shown: list[Any]) -> None:
    before = explorer.state
    explorer.still_of("A setting", SETTINGS[type(explorer).__name__][-1])
    [(words, _)] = IMAGE.findall(shown[0])
    assert words.startswith("A setting. ") and len(words) > 80
    assert explorer.state == before


def test_an_unknown_control_or_value_is_refused(explorer: Explorer) -> None:
    with pytest.raises(ValueError, match="state may have only .* got nonsense"):
        explorer.state = {"nonsense": 1}
    name, control = next(iter(explorer.controls.items()))
    with pytest.raises(ValueError, match="must be"):
        explorer.state = {name: 1e9 if isinstance(control, NumberControl) else "nonsense"}


def test_an_error_in_a_callback_is_shown_and_marked(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_paint", lambda *picture: dict[str, None]()["a <key>"])
    explorer.guarded(explorer.redraw)()
    note = explorer.note.value
    assert f'{WIDGET_ERROR}="KeyError: &#x27;a &lt;key&gt;&#x27;"' in note and 'role="alert"' in note
    assert "test_widgets.py" in note


def test_names_are_lazy_and_unknown_ones_are_refused() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = widgets.Nonsense
    assert all(inspect.isclass(getattr(widgets, name)) for name in EXPLORERS)


# -------------------------------------------------------------------- controls


@given(st.floats(1, 8))
@settings(max_examples=30)
def test_what_must_be_whole_is_whole_however_it_is_set(typed: float) -> None:
    number = NumberControl("count", 4.0, range(1, 9), whole=True)
    number.box.value = typed  # as by hand
    assert number.value == round(typed) == number.slider.options[number.slider.index][1]
    if typed != round(typed):
        with pytest.raises(ValueError, match="count must be a whole number from 1 to 8, got"):
            number.value = typed


@given(st.lists(st.one_of(st.floats(1e-4, 100), st.sampled_from([0.0, 0.05, 1.0])), min_size=1, max_size=6))
@settings(max_examples=30)
def test_box_and_slider_show_the_same_value(values: list[float]) -> None:
    number = NumberControl("λ", 1.0, [0.0, *decades(-4, 2)], words={0: "off"})
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


def test_a_choice_refuses_what_it_does_not_offer() -> None:
    choice = ChoiceControl("optimizer", "sgd", ["sgd", "adamw"])
    choice.value = "adamw"
    with pytest.raises(ValueError, match="optimizer must be one of sgd, adamw, got 'adam'"):
        choice.value = "adam"


# -------------------------------------------------------------------- bad input

NAN = float("nan")
BAD: dict[str, list[Any]] = {
    "seed": [-1, 2**63, 1.5, NAN, "3", True, None, [0], 1e400],
    "fault": ["nonsense", "", " division_in_debug_block", None, 3, NAN, ["division_in_debug_block"]],
    "scenario": ["nonsense", "", None, 3, NAN, preset("student"), ["student"]],
    "windows": [0, -3, 60.0, NAN, "60", True, None, 10**9],
    "label": ["", "  ", None, 3, NAN, ["a"], b"a"],
    "grid": [[], [NAN], [1, float("inf")], ["a"], [1, None], "12", None, 3, {1: 2}],
    "words": [3, "a", [0], {"a": "b"}, {0: ""}, {NAN: "x"}, {0: 3}],
    "whole": [1, None, "yes", 0.0, NAN],
    "options": [[], ["a", "a"], "ab", [1, 2], [""], None, {"a": 1}],
    "many": [1, None, "yes", 0.0, NAN],
    "browser": [1, None, "yes", 0.0, NAN],
    "title": ["", " ", None, 3, NAN, ["a"]],
    "settings": [None, 3, NAN, "clip", ["clip"], {"nonsense": 1}, {3: 1}, {"clip": 99}],
    "NumberControl.value": [NAN, float("inf"), "3", None, True, 1j, [1]],
    "ChoiceControl.value": ["c", "", None, 3, NAN, ["a"], "A"],
}
"""{parameter, or Class.parameter: values of at least five kinds that it must refuse}"""

PUBLIC: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    **{name: (getattr(widgets, name), {}) for name in EXPLORERS},
    "Dashboard": (dashboard.Dashboard, {}),
    "serve": (dashboard.serve, {"fault": "division_in_debug_block", "seed": 0, "browser": False}),
    "NumberControl": (NumberControl, {"label": "λ", "value": 1.0, "grid": [0.0, 1.0]}),
    "ChoiceControl": (ChoiceControl, {"label": "kind", "value": "a", "options": ["a", "b"]}),
    "still_of": (
        lambda title, settings: ScalingBugExplorer().still_of(title, settings),
        {"title": "Clipped", "settings": {"clip": 1.0}},
    ),
}
"""{name: (what is called, correct arguments for it)}"""


@pytest.mark.parametrize(
    "name, parameter",
    [(name, each) for name, (call, _) in PUBLIC.items() for each in inspect.signature(call).parameters],
)
def test_bad_input_is_refused_in_a_line_that_names_it_before_anything_is_drawn(
    name: str, parameter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covlab.plots._display", lambda content: pytest.fail("something was shown"))
    monkeypatch.setattr("IPython.display.display", lambda *things, **how: pytest.fail("something was shown"))
    call, correct = PUBLIC[name]
    bad = BAD.get(f"{name}.{parameter}") or BAD[parameter]
    assert len(bad) >= 5
    for value in bad:
        with pytest.raises(ValueError) as refused:
            call(**correct | {parameter: value})
        said = str(refused.value)
        assert re.match(rf"{parameter}(\[.+?\])? (must be|may have only) .+, got ", said) and "\n" not in said, said


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_state_is_taken_as_a_whole_or_refused_in_a_line_that_names_the_control(name: str) -> None:
    explorer = getattr(widgets, name)()
    drawn: list[dict] = []
    explorer.redraw = lambda: drawn.append(explorer.state)
    before = explorer.state
    number = [NAN, float("inf"), -1e9, "3", None, [1], True, torch.ones(2), np.ones(2)]
    choice = ["nonsense", "", None, 3, NAN, ["on"], torch.ones(2), np.array(["on", "off"])]
    for key, control in explorer.controls.items():
        others = {
            other: each.grid[0] if isinstance(each, NumberControl) else each.box.options[-1]
            for other, each in explorer.controls.items()
            if other != key
        }
        for value in number if isinstance(control, NumberControl) else choice:
            with pytest.raises(ValueError, match=rf"state\['{key}'\] must be .+, got ") as refused:
                explorer.state = others | {key: value}
            assert "\n" not in str(refused.value)
    for state in (None, 3, "clip", ["clip"], {"nonsense": 1}, {3: 1}, {None: 1}):
        with pytest.raises(ValueError, match=r"state (must be|may have only) .+, got "):
            explorer.state = state
    assert explorer.state == before and drawn == []


# -------------------------------------------------------------------- work in the background


def in_loop(
    work: Work, stop_after: threading.Event | None = None
) -> tuple[list[threading.Thread], list[Exception], Background]:
    """Run ``work`` in the background of an event loop; return (threads that refreshed, errors, the background)."""
    refreshed: list[threading.Thread] = []
    errors: list[Exception] = []

    async def main() -> Background:
        background = Background("counting", lambda: refreshed.append(threading.current_thread()), errors.append)
        background.start(work)
        if stop_after:
            await asyncio.to_thread(stop_after.wait)
            background.stop()
        while background.running:
            await asyncio.sleep(0.01)
        return background

    background = asyncio.run(main())
    return refreshed, errors, background


def test_results_come_to_the_front_in_the_kernels_own_thread() -> None:
    workers = []

    def work() -> Work:
        for step in range(5):
            workers.append(threading.current_thread())
            yield step / 5

    refreshed, errors, background = in_loop(work())
    assert set(refreshed) == {threading.main_thread()} and threading.main_thread() not in workers
    assert not errors and 'value="1.000"' in background.bar.value and background.button.disabled


def test_stop_ends_the_work() -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> Work:
        try:
            while True:
                begun.set()
                yield 0.5
        finally:
            done.set()

    _, _, background = in_loop(work(), stop_after=begun)
    assert "stopped" in background.bar.value and done.wait(5)


def test_new_work_waits_for_the_work_it_replaces() -> None:
    at_work, most = [], []

    def work() -> Work:
        for _ in range(3):
            at_work.append(1)
            most.append(len(at_work))
            time.sleep(0.03)
            at_work.pop()
            yield 0.5

    async def main() -> None:
        background = Background("counting", lambda: None, lambda error: pytest.fail(str(error)))
        for _ in range(4):
            background.start(work())
            await asyncio.sleep(0.02)
        while background.running:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert max(most) == 1


def test_an_error_in_the_background_comes_to_the_front() -> None:
    def work() -> Work:
        yield 0.1
        raise KeyError("in the thread")

    _, errors, background = in_loop(work())
    assert [type(error) for error in errors] == [KeyError] and not background.running


def draw_words(explorer: TrainingExplorer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the explorer draw no pictures. Return the list of the states that it shows instead, as text."""
    shown: list[str] = []
    monkeypatch.setattr(explorer, "picture_of", lambda state: (None, repr(state)))
    monkeypatch.setattr(explorer, "_paint", lambda figure, alt: shown.append(alt))
    return shown


def test_a_stopped_run_is_not_trained_in_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop returns at once, while the thread is still in its window: showing the explorer then must wait for it."""
    explorer = ScalingBugExplorer()
    at_work, most = [0], [0]
    in_window = threading.Event()
    honest = Trainer.train_window

    def slowly(self: Trainer, window: Any) -> Any:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        in_window.set()
        time.sleep(0.02)
        try:
            return honest(self, window)
        finally:
            at_work[0] -= 1

    monkeypatch.setattr(Trainer, "train_window", slowly)
    monkeypatch.setattr("covlab.widgets.scaling_bug.EPOCHS", 1)
    monkeypatch.setattr("IPython.display.display", lambda *things, **how: None)

    async def main() -> None:
        for use in (
            explorer.show,
            lambda: explorer.still_of("it", explorer.state),
            lambda: explorer.draw(explorer.state),
        ):
            explorer.state = {"clip": explorer.state["clip"] + 1}
            await asyncio.to_thread(in_window.wait, 10)
            explorer.background.stop()
            use()
            in_window.clear()

    draw_words(explorer, monkeypatch)
    monkeypatch.setattr(explorer, "still_of", lambda title, settings: explorer.draw(settings))
    asyncio.run(main())
    assert most[0] == 1


def test_after_many_fast_moves_the_last_one_is_shown_and_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covlab.widgets.scaling_bug.EPOCHS", 2)
    explorer, before = ScalingBugExplorer(), set(threading.enumerate())
    shown = draw_words(explorer, monkeypatch)

    async def main() -> None:
        for number in range(12):
            explorer.state = {"clip": 0.5 * number, "optimizer": ("sgd", "adamw")[number % 2]}
        while explorer.background.running:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert explorer.training(explorer.state) is None, "the last setting is trained to its end"
    assert WIDGET_ERROR not in explorer.note.value
    assert shown[-1] == repr(explorer.state) and explorer.state["clip"] == 5.5


def test_bar_and_picture_always_show_the_same_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a run is stopped within an epoch, when it goes on, and when a half trained setting comes back."""
    monkeypatch.setattr("covlab.widgets.scaling_bug.EPOCHS", 3)
    explorer, windows = ScalingBugExplorer(), threading.Semaphore(0)
    assert explorer.background.button.disabled and "training: not started" in explorer.background.bar.value
    honest, show, shares = Trainer.train_window, Background.show_progress, []
    pictures: list[float] = []
    monkeypatch.setattr(explorer, "picture_of", lambda state: (None, str(reached(*explorer.runs(state)))))
    monkeypatch.setattr(explorer, "_paint", lambda figure, alt: pictures.append(float(alt)))

    def slowly(self: Trainer, window: Any) -> Any:
        time.sleep(0.01)
        windows.release()
        return honest(self, window)

    def compared(self: Background, share: float, end: str = "") -> None:
        show(self, share, end)
        shares.append((share, pictures[-1]))
        assert not self.button.disabled or re.search("done|not started", self.bar.value), "no reason in sight"

    monkeypatch.setattr(Trainer, "train_window", slowly)
    monkeypatch.setattr(Background, "show_progress", compared)

    async def stopped() -> None:
        for _ in range(6):
            await asyncio.to_thread(windows.acquire, timeout=10)
        explorer.background.stop()
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and thread.daemon and "_do" in thread.name:
                await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        while windows.acquire(blocking=False):
            pass

    async def main() -> None:
        explorer.redraw()
        await stopped()
        explorer.background.resume()
        await stopped()
        explorer.state = {"bug": "off"}
        await stopped()
        explorer.state = {"bug": "on"}
        while explorer.background.running:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert WIDGET_ERROR not in explorer.note.value
    assert [share for share, _ in shares] == [picture for _, picture in shares]
    assert shares[-1][0] == 1 and len({share for share, _ in shares}) > 3


def limits(explorer: widgets.Explorer) -> list[tuple[float, float]]:
    """Return the limits of every axis of the picture of training runs."""
    if isinstance(explorer, LossWeightsExplorer):
        figure, _ = explorer._curves()
    else:
        assert isinstance(explorer, TrainingExplorer)
        figure, _ = explorer.picture_of(explorer.state)
    return [limit for axes in figure.axes for limit in (axes.get_xlim(), axes.get_ylim())]


@pytest.mark.parametrize(
    "name, setting",
    [
        ("LossScaleExplorer", {"scale": 32.0}),
        ("LossWeightsExplorer", {"lam_ortho": 1.0}),
        ("ScalingBugExplorer", {"accumulation": 1.0, "clip": 10.0}),
        ("ScalingBugExplorer", {"optimizer": "sgd", "accumulation": 8.0, "clip": 0.0}),
    ],
)
def test_an_unfinished_run_is_shown_so_far_on_axes_that_do_not_move(
    name: str, setting: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an explorer says of a run, in its picture's words and in the note."""
    works: list[Work] = []
    monkeypatch.setattr(Background, "start", lambda self, work, share=0.0: works.append(work))
    explorer = getattr(widgets, name)()
    explorer.state = setting

    def said() -> list[str]:
        if isinstance(explorer, LossWeightsExplorer):
            explorer.redraw_curve()
            return [parts(explorer.curve.value)[0]]
        explorer.paint()
        return [each for each in (parts(explorer.picture.value)[0], explorer.note.value) if each]

    if isinstance(explorer, LossWeightsExplorer):
        explorer.windows.value = 20
        explorer.train()
    before = limits(explorer)
    for _ in range(2):
        next(works[-1])
    assert all("so far" in words.lower() for words in said()), said()
    for _ in works[-1]:
        pass
    assert not any("so far" in words.lower() for words in said())
    assert limits(explorer) == before


@pytest.mark.parametrize("name", EXPLORERS)
def test_many_moves_keep_the_runs_of_few_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Trainer] = weakref.WeakSet()
    made = Trainer.__init__

    def make(self: Trainer, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        alive.add(self)

    monkeypatch.setattr(Trainer, "__init__", make)
    explorer = getattr(widgets, name)()
    # Nothing is trained or drawn here: a picture asks for the runs of its setting as `training` does.
    monkeypatch.setattr(Background, "start", lambda self, work, share=0.0: None)
    if isinstance(explorer, TrainingExplorer):
        monkeypatch.setattr(explorer, "paint", lambda: explorer.training(explorer.state))
    else:
        monkeypatch.setattr(explorer, "redraw", lambda: None)
        monkeypatch.setattr(explorer, "redraw_curve", lambda: None, raising=False)
    for number in range(3 * KEPT):
        choose = random.Random(number).choice
        explorer.state = {
            name: choose(control.grid if isinstance(control, NumberControl) else control.box.options)
            for name, control in explorer.controls.items()
        } | ({"lam_cov": 1.0} if isinstance(explorer, LossWeightsExplorer) else {})
        if isinstance(explorer, LossWeightsExplorer):
            explorer.train()
    assert WIDGET_ERROR not in explorer.note.value
    gc.collect()
    assert len(alive) <= 2 * KEPT  # the scaling bug has two for each setting
    assert bool(alive) == isinstance(explorer, TrainingExplorer | LossWeightsExplorer)


# -------------------------------------------------------------------- the dashboard's folder


def dashboard_folders() -> list[Path]:
    return [each for each in Path(tempfile.gettempdir()).glob("covlab-*") if each.is_dir()]


def test_the_dashboards_folder_lasts_as_long_as_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ready = multiprocessing.get_context("fork").Event()

    def serve_forever() -> None:
        with dashboard.temporary_folder():
            ready.set()
            time.sleep(60)

    other = multiprocessing.get_context("fork").Process(target=serve_forever)
    other.start()
    try:
        assert ready.wait(30)
        [alive] = dashboard_folders()
        with dashboard.temporary_folder() as folder:
            assert sorted(dashboard_folders()) == sorted([alive, folder]), "another dashboard's folder stays"
        assert dashboard_folders() == [alive]
    finally:
        other.kill()
        other.join()
    assert dashboard_folders() == [alive], "a killed process removes nothing"
    with pytest.raises(SystemExit), dashboard.temporary_folder() as folder:
        assert dashboard_folders() == [folder]
        raise SystemExit
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------- what single explorers say


@given(st.floats(0.05, 100), st.floats(0.05, 100), st.floats(-80, 80), st.floats(0, 1))
@settings(max_examples=25)
def test_nmse_does_not_change_with_scale_and_plain_error_does(
    one: float, other: float, angle: float, noise: float
) -> None:
    explorer = NMSEExplorer()
    R = explorer.frame[0]
    errors = [nmse(explorer.estimate(scale, angle, noise)[None], R[None]).item() for scale in (one, other)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-9, abs=1e-12)


def test_directions_of_the_nmse_explorer_are_at_right_angles() -> None:
    R, D, E = NMSEExplorer(seed=3).frame
    for one in (D, E):
        assert torch.linalg.matrix_norm(one - one.mH) < 1e-12 and abs(one.trace()) < 1e-12
        assert torch.linalg.matrix_norm(one) == pytest.approx(1)
    for one, other in ((R, D), (R, E), (D, E)):
        assert abs((one.conj() * other).sum()) < 1e-11 * torch.linalg.matrix_norm(one) * torch.linalg.matrix_norm(other)


def test_a_negative_trace_is_called_nan() -> None:
    _, alt = NMSEExplorer().draw({"scale": 1.0, "angle": 120.0, "noise": 0.0})
    assert "NaN" in alt


@given(
    st.dictionaries(st.sampled_from(list(LossWeights().values())), st.sampled_from([0.0, 0.01, 0.5, 2.0]), max_size=9)
)
@settings(max_examples=12)
def test_shares_and_gradient_are_those_of_the_weighted_loss(change: dict[str, float]) -> None:
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


def test_the_guard_objects_when_the_main_weight_is_off_and_nothing_trains() -> None:
    explorer = LossWeightsExplorer()
    explorer.state = {"lam_cov": 0.0}
    assert "lam_cov must be above 0" in explorer.note.value and WIDGET_ERROR not in explorer.note.value
    explorer.train()
    assert explorer.runs == [] and "No training" in explorer.note.value
    assert explorer.train_button.disabled and "lam_cov must be above 0" in explorer.train_button.tooltip
    explorer.state = {"lam_cov": 1.0}
    assert "lam_cov must be above 0" not in explorer.note.value and not explorer.train_button.disabled


@pytest.mark.parametrize("name", LossWeights.names())
@pytest.mark.parametrize("factor", [0.0, 10.0])
def test_each_weight_that_moves_alone_is_explained(name: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text names the weight and what changed: its share is that of the picture, and length and turn of the whole
    gradient agree with the change of one term, by the law of cosines.
    """
    explorer = LossWeightsExplorer()
    explorer.terms = TERMS
    monkeypatch.setattr(Explorer, "redraw", lambda self: None)  # the picture itself is drawn elsewhere
    explorer.state = {name: 0.5}
    explorer.state = {name: 0.5 * factor}
    said = html.unescape(explorer.note.value)
    if name == "lam_cov" and not factor:
        assert "LossWeights rejects these weights: lam_cov must be above 0" in said
        said = explorer.explanation(explorer.state | {name: 0.5}, explorer.state)
    assert f"{name} went from 0.5 to {0.5 * factor:g}" in said and loss_weights.ASKS[name] in said
    before, after = TERMS.weighted(explorer.state | {name: 0.5}), TERMS.weighted(explorer.state)
    change = abs(after.norms[name] - before.norms[name])
    if not change:
        assert "the whole gradient stays the same" in said
        return
    assert f"{after.norms[name] / sum(after.norms.values()):.1%}" in said
    cosine = (before.norm**2 + after.norm**2 - change**2) / (2 * before.norm * after.norm)
    change_said = re.search(r"is (\S+) times as long as before, and turned by (\d+)°", said)
    assert change_said, said
    said_ratio, said_angle = map(float, change_said.groups())
    assert said_ratio == pytest.approx(after.norm / before.norm, rel=0.01)
    assert said_angle == pytest.approx(math.degrees(math.acos(min(1.0, cosine))), abs=1.0)


def test_weights_that_move_together_are_not_explained_as_one() -> None:
    explorer = LossWeightsExplorer()
    explorer.terms = TERMS
    explorer.state = {"lam_gap": 1.0, "lam_K": 1.0}
    assert explorer.note.value == ""


def test_a_control_without_effect_is_disabled_with_its_reason_and_the_others_are_not() -> None:
    """The law: a control is enabled exactly if another value of it makes another picture or other words."""
    explorer = SceneExplorer()
    for kind in ("true R", "sample covariance"):
        explorer.state = {"R of": kind}
        before = parts(plots_of(explorer, {}))
        for name, control in explorer.controls.items():
            other = control.grid[0] if isinstance(control, NumberControl) else control.box.options[-1]
            after = parts(plots_of(explorer, {name: other}))
            same = name == "snr" and before[1] == after[1]
            assert control.box.disabled == same
            assert ("choose the sample covariance" in control.widget.children[-1].value) == same


def plots_of(explorer: Explorer, change: dict) -> str:
    return plots.image(*explorer.draw(explorer.state | change))


def test_training_draws_its_curve_over_earlier_ones() -> None:
    explorer = LossWeightsExplorer(windows=20)
    explorer.train()
    explorer.state = {"lam_ortho": 1.0}
    explorer.train()
    assert [name for name, _ in explorer.runs] == ["defaults", "lam_ortho = 1"]
    assert all(run.window == 20 for _, run in explorer.runs)
    assert "defaults" in explorer.curve.value and "lam_ortho = 1" in explorer.curve.value
    assert "done" in explorer.background.bar.value


def test_every_exhibit_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer, alts = FaultMuseumExplorer(), {}
    monkeypatch.setattr(explorer, "_paint", lambda figure, alt: alts.update({explorer.state["fault"]: alt}))
    for name in (*reversed(FAULTS), "division_in_debug_block"):
        explorer.state = {"fault": name}
        assert name in alts[name] and WIDGET_ERROR not in explorer.note.value
        assert html.escape(FAULTS[name].title) in explorer.label.value
        assert set(re.findall(r'block; background-color: #[0-9a-f]+; color: black">([-+])', explorer.code.value)) & {
            "-",
            "+",
        }
    assert set(alts) == set(FAULTS)


@given(st.integers(-20, 40), st.floats(0.1, 10), st.integers(0, 5))
@settings(max_examples=30)
def test_shares_of_half_precision_are_those_of_torch(power: int, spread: float, seed: int) -> None:
    gradient = (
        torch.randn(500, generator=torch.Generator().manual_seed(seed)) * torch.linspace(-spread, spread, 500).exp()
    )
    seen = scaled({"it": gradient}, 2.0**power)
    half = (gradient.double() * 2.0**power).half()
    assert seen.lost["it"] == (half == 0).double().mean() and seen.overflown["it"] == half.isinf().double().mean()
    assert seen.shares["it"].sum() == pytest.approx(1)
    assert seen.lost["it"] + seen.blurred["it"] + seen.overflown["it"] <= 1


def test_gradients_of_weights_are_those_the_trainer_accumulates() -> None:
    explorer = LossScaleExplorer()
    found = explorer.gradients["untrained"]["by weights"]
    run = small_run(windows=1)
    for micro_batch in (window := next(run.draw_windows(0))):
        run.backward(run.weigh(run.losses(micro_batch), micro_batch, torch.tensor(float(sum(map(len, window))))))
    expected = torch.cat(
        [
            layer.weight.grad.flatten()
            for layer in run.model.modules()
            if isinstance(layer, torch.nn.Linear) and layer.weight.grad is not None
        ]
    )
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_the_scalers_path_starts_where_it_is_put_and_falls_where_steps_are_skipped() -> None:
    explorer = LossScaleExplorer()
    state = explorer.state | {"scale": 28.0}
    explorer.draw(state)
    rows = explorer._run(state).ledger.rows
    assert len(rows) == 32 and not rows[0]["ran"] and rows[0]["loss_scale"] == 2.0**27
    assert "2^28" in explorer.draw(state)[1]


def test_with_the_bug_off_both_runs_are_one_and_with_it_the_log_is_four_times_as_large() -> None:
    explorer = ScalingBugExplorer()
    for bug in ("off", "on"):
        explorer.state = {"bug": bug, "clip": 0.0}
        clean, other = explorer.pair(explorer.state).values()
        assert torch.equal(clean.vector, other.vector) == (bug == "off")
        assert (other.history[-1]["train"] / clean.history[-1]["train"] > 3.5) == (bug == "on")
    assert re.search(r"logged loss × (3\.[89]|4\.0)", explorer.note.value)


def test_the_verdict_is_shown_from_the_start(shown: list[Any]) -> None:
    explorer = ScalingBugExplorer()
    explorer.show()
    assert "compared with the correct run: logged loss ×" in explorer.note.value


@pytest.mark.parametrize(
    "fault, said",
    [
        ("nested_in_debug_block", "no step is taken: the log shows 0.000000, and the NMSE stays"),
        ("overflow_probe_wrong_key", "logged loss not finite"),
    ],
)
def test_a_run_that_takes_no_step_or_is_stopped_for_its_losses_gets_a_verdict_too(fault: str, said: str) -> None:
    explorer = ScalingBugExplorer(fault)
    explorer.redraw()
    assert said in explorer.note.value and WIDGET_ERROR not in explorer.note.value


def test_a_pair_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = ScalingBugExplorer()
    explorer.draw(explorer.state)
    monkeypatch.setattr(Trainer, "train_window", lambda *arguments: pytest.fail("trained again"))
    explorer.redraw()
    assert WIDGET_ERROR not in explorer.note.value


@pytest.mark.parametrize(
    "make", [lambda: ScalingBugExplorer("nonsense"), lambda: FaultMuseumExplorer("nonsense")], ids=["scaling", "museum"]
)
def test_a_fault_that_does_not_exist_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="fault must be one of .* got 'nonsense'"):
        make()


@given(st.sampled_from(range(-60, 61, 5)), st.sampled_from([0.5, 1.0, 2.0, 5.0, 10.0]))
@settings(max_examples=15)
def test_music_on_the_true_covariance_finds_the_moved_source_with_spherical_waves(azimuth: int, range_m: float) -> None:
    if azimuth == -30:
        return  # the other source is there
    explorer = SceneExplorer()
    _, alt = explorer.draw(explorer.state | {"azimuth": float(azimuth), "range": range_m})
    highest = re.search(r"highest at (-?\d+) degrees with spherical", alt)
    assert highest is not None
    found = float(highest[1])
    assert abs(found - azimuth) <= 1


def test_scenes_at_given_positions_equal_drawn_ones() -> None:
    simulator, again = Simulator(preset("student")), Simulator(preset("student"))
    drawn = simulator.draw(5, scene_generator(0, "test"))
    generator = scene_generator(0, "test")
    for shape in ((5, 2), (5, 2), (5, 2), (5, 2), (5,)):
        torch.rand(*shape, generator=generator)
    torch.randint(1, 3, (5, 1), generator=generator)
    placed = again.observe(drawn.azimuth, drawn.elevation, drawn.range_m, drawn.power, drawn.snr_db, generator)
    assert torch.equal(drawn.y, placed.y) and torch.equal(drawn.codes, placed.codes)
