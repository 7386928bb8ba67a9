"""Names the package in the wheel's `top_level.txt`: `spacy package` finds requirements by it."""

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TopLevel(BuildHookInterface):
    """Adds the file, which hatchling does not write, to wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the file and say where in the wheel it belongs."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
            file.write("trfnb\n")
        metadata = f"{self.build_config.builder.project_id}.dist-info"
        build_data["force_include"][file.name] = f"{metadata}/top_level.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the file."""
        for source, target in build_data["force_include"].items():
            if target.endswith("/top_level.txt"):
                Path(source).unlink(missing_ok=True)
