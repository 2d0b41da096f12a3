"""Small lessons for tests."""

from pathlib import Path

HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
"""
PARAMETERS = '# %% tags=["parameters", "unread"]\nseed = 0\nprofile = "cpu"\n'


def write_lesson(root: Path, name: str, *cells: str) -> Path:
    path = root / "lessons" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + "\n" + PARAMETERS + "".join(f"\n{cell}\n" for cell in cells))
    return path


TITLE = "# %% [markdown]\n# # A lesson"
EXERCISE = '# %% tags=["exercise"]\nanswer = None'
SOLUTION = '# %% tags=["solution"]\nanswer = 42'
CHECK = "# %%\nfrom covlab.course import verdict\nverdict('01.answer', answer == 42, 'is it 42?')"
