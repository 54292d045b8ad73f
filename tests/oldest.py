"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

torch is left out: see docs/dependencies.md.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for line in [*project["dependencies"], *extras["train"], *extras["serve"]]:
    name, oldest = re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups()
    if name != "torch":
        print(f"{name}=={oldest}" if oldest.count(".") > 1 else f"{name}=={oldest}.*")
