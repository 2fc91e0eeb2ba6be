"""A plugin of pytest that changes the source of one module while it is imported.

The variables of the environment MUTATED, RIGHT and WRONG say which module, and what is replaced by what.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType


class _Loader(SourceFileLoader):
    """Loads a module with the change, without its cached bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source."""
        source = self.get_data(self.path).decode()
        right, wrong = os.environ["RIGHT"], os.environ["WRONG"]
        assert source.count(right) == 1, f"{fullname} does not have it once: {right}"
        return compile(source.replace(right, wrong), self.path, "exec")


class _Finder:
    """Finds the module to change."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module with the loader that changes it; None for all others."""
        if name != os.environ["MUTATED"]:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin)
        return spec


assert os.environ["MUTATED"] not in sys.modules
sys.meta_path.insert(0, _Finder())
