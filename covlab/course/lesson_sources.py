"""Where lessons are: in the clone that a command names, in the installed package, or in the clone of the package."""

from pathlib import Path

import covlab

PACKAGE = Path(covlab.__file__).parent


def lessons_folder(root: Path) -> Path:
    """Return the folder with the sources of the lessons; root/lessons if it exists."""
    folders = (root / "lessons", PACKAGE / "lessons", PACKAGE.parent / "lessons")
    return next((folder for folder in folders if folder.is_dir()), folders[0])
