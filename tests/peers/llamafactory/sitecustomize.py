"""On the path of LLaMA-Factory's environment: torchaudio without its comparison of CUDA versions.

LLaMA-Factory imports torchaudio, which refuses to load beside a torch for another CUDA version.
PyPI has no torchaudio for the newest torch, and nothing here uses sound or CUDA. Python runs this
file at the start of a process that has its folder in ``PYTHONPATH``.
"""

import importlib.abc
import importlib.machinery
import sys

CHECKED = "torchaudio._extension.utils"


class Unchecked(importlib.abc.MetaPathFinder):
    """Finds one module as usual, and replaces its check once it is loaded."""

    def find_spec(self, name, path=None, target=None):
        """Return the module's spec with a loader that removes the check."""
        if name != CHECKED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                module._check_cuda_version = lambda: None

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Unchecked())
