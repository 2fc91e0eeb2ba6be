"""The entry point by which PyInstaller finds the hook for Alligator."""

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folder with the hook."""
    return [str(Path(__file__).parent)]
