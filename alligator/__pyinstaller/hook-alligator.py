"""Name what PyInstaller cannot find: backends are imported by name, templates are data files."""

from importlib.util import find_spec

from PyInstaller.utils.hooks import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    collect_data_files,
    collect_submodules,
)

LIBRARIES = {
    "alligator.backends.redis": "redis",
    "alligator.backends.sqs": "boto3",
    "alligator.monitoring.metrics": "prometheus_client",
    "alligator.telemetry.opentelemetry": "opentelemetry",
}
"""The modules that need an optional library; each is the beginning of their names."""


def _is_usable(module: str) -> bool:
    return not any(
        module.startswith(prefix) and find_spec(library) is None
        for prefix, library in LIBRARIES.items()
    )


hiddenimports = collect_submodules("alligator", filter=_is_usable)
datas = collect_data_files("alligator")
