"""A pytest plugin that watches the training in a test, and fails the test where the watch finds a fault.

    def test_training_step(covlab_watch):
        train(steps=12)

    @pytest.mark.covlab_watch(fail_on="warning")
    def test_another(): ...

pytest loads this file in every run, so it imports PyTorch only when a test is watched.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from covlab.watch import watch

NAME = "covlab_watch"  # of the fixture and of the marker
OPTIONS = ("fail_on", "light", "steps", "select", "ignore")
_WATCHED = pytest.StashKey["WatchedTest"]()


class WatchedTest:
    """The watch of one test, and the worst finding that the test allows."""

    def __init__(self, fail_on: str = "fault", **options: Any) -> None:
        from covlab.watch.report import FAIL_ON
        from covlab.watch.session import watch

        if fail_on not in FAIL_ON:
            raise ValueError(f"fail_on must be one of {', '.join(FAIL_ON)}, got {fail_on!r}")
        if not isinstance(options.get("light", False), bool):
            raise ValueError(f"light must be True or False, got {options['light']!r}")
        self.fail_on, self.watched = fail_on, watch(**options)


def pytest_configure(config: pytest.Config) -> None:
    text = 'watch the training in this test, and fail where the watch finds a fault; also the fixture "covlab_watch"'
    config.addinivalue_line(
        "markers", f"{NAME}(fail_on='fault', light=False, steps=None, select=None, ignore=None): {text}"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make the watch, so that wrong arguments of the marker stop the test before its fixtures run."""
    if item.get_closest_marker(NAME) is None and NAME not in getattr(item, "fixturenames", ()):
        return
    try:
        item.stash[_WATCHED] = WatchedTest(**_options(item))
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.{NAME}: {error}", pytrace=False)


def _options(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of the markers of the test, its class and its module; the nearest one wins."""
    options: dict[str, Any] = {}
    for mark in item.iter_markers(NAME):
        if mark.args:
            raise TypeError(f"takes arguments by name, such as fail_on='fault', got {mark.args[0]!r}")
        unknown = next((name for name in mark.kwargs if name not in OPTIONS), None)
        if unknown is not None:
            raise TypeError(f"no such argument: {unknown!r}; there are {', '.join(OPTIONS)}")
        options = {**mark.kwargs, **options}
    return options


@pytest.fixture
def covlab_watch(request: pytest.FixtureRequest) -> "watch":
    """Watch the training in this test, and fail the test where the watch finds a fault.

    The value is the watch itself: ``covlab_watch.log(loss)``, ``covlab_watch.report()``.
    """
    test: WatchedTest | None = request.node.stash.get(_WATCHED, None) if request.scope == "function" else None
    if test is None:  # asked for by request.getfixturevalue, when the test already runs
        pytest.fail(f"the fixture {NAME} must be an argument of the test, or the test be marked with it", pytrace=False)
    return test.watched


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Watch the body of the test. Its own failure comes first; the report is then a section below it."""
    test = item.stash.get(_WATCHED, None)
    if test is None:
        return (yield)
    result = None
    try:
        with test.watched:
            result = yield
    except BaseException:
        _add_report(item, test)
        raise
    report = test.watched.report()
    if report.failed(test.fail_on):
        pytest.fail(str(report), pytrace=False)
    _add_report(item, test)
    return result


def _add_report(item: pytest.Item, test: WatchedTest) -> None:
    item.add_report_section("call", NAME, str(test.watched.report()))
