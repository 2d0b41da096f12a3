"""What pyproject.toml cannot say: the wheel gets the lessons, and the description gets addresses for its pictures."""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class BuildWithLessons(build_py):
    """Also copy lessons/ into the package, where `covlab course` finds them outside of a clone."""

    def run(self) -> None:
        if not self.editable_mode:  # setuptools would put modules of an earlier build into the wheel again
            shutil.rmtree(Path(self.build_lib) / "covlab", ignore_errors=True)
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib) / "covlab" / "lessons"
            folder.mkdir()
            for source in (*ROOT.glob("lessons/*.py"), ROOT / "lessons" / "claims.toml"):
                shutil.copy2(source, folder)


def description() -> str:
    """Return README.md as a package index shows it: relative links and pictures get addresses in the repository."""
    place = f"{PROJECT['urls']['Repository']}/blob/v{PROJECT['version']}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"(!\[[^]]*\]\()(?!\w+:|#)([^)]+)\)", rf"\1{place.replace('/blob/', '/raw/')}/\2)", readme)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!\w+:|#)([^)]+)\)", rf"\1{place}/\2)", readme)


setup(
    cmdclass={"build_py": BuildWithLessons},
    long_description=description(),
    long_description_content_type="text/markdown",
)
