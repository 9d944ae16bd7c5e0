"""A directory of installed distributions, created by a test: for tests of finding and loading plugins."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from i2core.registry import GROUP

CODEC_PLUGIN = """
from i2core.api import hookimpl
from i2core.testing import XOR
import attrs

@hookimpl
def i2_codecs():
    return [attrs.evolve(XOR, name={name!r})]
"""
"""Source of a plugin that offers one working codec; ``.format(name=…)``."""


class Site:
    """Distributions in `root`, which is the first entry of ``sys.path`` during the body."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: set[str] = set()

    def __enter__(self) -> Site:
        sys.path.insert(0, str(self.root))
        return self

    def __exit__(self, *_: object) -> None:
        sys.path.remove(str(self.root))
        for module in self._modules & set(sys.modules):
            del sys.modules[module]

    def add(self, plugin: str, source: str | None = None, *, distribution: str = "", version: str = "1.0") -> str:
        """Installs a distribution with one plugin, whose module has this source; None: a working codec with the
        plugin's name. Returns the module's name."""
        distribution = distribution or f"dist-{plugin}"
        module = distribution.replace("-", "_") + "_module"
        code = CODEC_PLUGIN.format(name=plugin) if source is None else source
        (self.root / f"{module}.py").write_text(code)
        self._modules.add(module)
        self.add_metadata(distribution, f"[{GROUP}]\n{plugin} = {module}\n", version=version)
        return module

    def add_metadata(self, distribution: str, entry_points: str, *, version: str = "1.0") -> None:
        """Installs the metadata of a distribution as pip does, without any module."""
        folder = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(entry_points)
        importlib.invalidate_caches()
