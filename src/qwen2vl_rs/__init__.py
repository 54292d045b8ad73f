"""Qwen2-VL-RS: fine-tune and evaluate Qwen2-VL on questions about satellite and aerial images.

Everything that the commands do, from Python; nothing is imported before it is used::

    import qwen2vl_rs as rs

    data = rs.datasets.RSVQA("RSVQA_LR", split="test")
    model = rs.load("output/demo")
    model.ask("tile.tif", ["Is there a road?", "How many buildings are there?"])
    rs.evaluate(model, data)
"""

from typing import TYPE_CHECKING

from .system.lazy import lazy_attributes
from .version import VERSION

if TYPE_CHECKING:
    from . import datasets as datasets
    from .errors import Qwen2VLRSError as Qwen2VLRSError
    from .library.checks import check as check
    from .library.checks import inspect as inspect
    from .library.data import fetch_dataset as fetch_dataset
    from .library.imagery import generate as generate
    from .library.imagery import map_scene as map_scene
    from .library.machine import doctor as doctor
    from .library.model import Model as Model
    from .library.model import load as load
    from .library.runs import download as download
    from .library.runs import export as export
    from .library.runs import report as report
    from .library.runs import settings as settings
    from .library.runs import train as train
    from .library.scores import compare as compare
    from .library.scores import evaluate as evaluate
    from .library.scores import score as score

_MODULES = {
    "datasets": "",
    "Qwen2VLRSError": "errors",
    "check": "library.checks",
    "inspect": "library.checks",
    "Model": "library.model",
    "load": "library.model",
    "compare": "library.scores",
    "evaluate": "library.scores",
    "score": "library.scores",
    "doctor": "library.machine",
    "download": "library.runs",
    "export": "library.runs",
    "fetch_dataset": "library.data",
    "generate": "library.imagery",
    "map_scene": "library.imagery",
    "report": "library.runs",
    "settings": "library.runs",
    "train": "library.runs",
}
__version__ = VERSION
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
__all__ = [
    "Model",
    "Qwen2VLRSError",
    "check",
    "compare",
    "datasets",
    "doctor",
    "download",
    "evaluate",
    "export",
    "fetch_dataset",
    "generate",
    "inspect",
    "load",
    "map_scene",
    "report",
    "score",
    "settings",
    "train",
]
