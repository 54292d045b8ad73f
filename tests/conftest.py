"""No test reads or writes the caches and settings of whoever runs it, or leaves this machine."""

import contextlib
import functools
import gc
import ipaddress
import os
import re
import shutil
import ssl
import sys
import tempfile
from pathlib import Path

import pytest

from qwen2vl_rs.cli import output
from qwen2vl_rs.system import console

pytest_plugins = ["bases", "browsing"]

# a fifth of what the programs that tests start take is compiling what the first has compiled
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

with contextlib.suppress(ModuleNotFoundError):  # the tests of the kit for a GPU need none
    import hypothesis

    # 40 examples a property: test-slow looks at more
    hypothesis.settings.register_profile("quick", deadline=None, max_examples=40)
    hypothesis.settings.load_profile("quick")

FOLDERS = {
    "HOME": "",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "HF_HOME": "hf",
    "MODELSCOPE_CACHE": "modelscope",
    "SWANLAB_SAVE_DIR": "swanlab",
    "SWANLAB_LOG_DIR": "swanlog",
}
UNSET = ("HF_HUB_OFFLINE", "HF_TOKEN", "QWEN2VL_RS_DEBUG")


def pytest_configure(config: pytest.Config) -> None:
    # here and not in a fixture: the hub libraries read these while test modules are imported
    home = Path(tempfile.mkdtemp(prefix="qwen2vl-rs-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in [*UNSET, *(name for name in os.environ if name.startswith("SWANLAB_"))]:
        os.environ.pop(name, None)
    for name, folder in FOLDERS.items():
        os.environ[name] = str(home / folder)
    if "MUTANT_UNDER_TEST" in os.environ:
        _forget()
    sys.addaudithook(_stay_here)
    gc.set_threshold(100_000, 50, 100)  # what tests leave is small; the default takes 6 % of them
    # every client of httpx reads the certificates of all authorities: 25 ms, hundreds of times
    ssl.create_default_context = functools.cache(ssl.create_default_context)


def _forget() -> None:
    """Each fault is tried in a fork: what functions remembered without it would hide it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("qwen2vl_rs"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _stay_here(event: str, arguments: tuple) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_here(address[0]):
            raise RuntimeError(f"a test may not connect to {address}")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Under mutation, pass over tests of other processes, and of the text of the sources."""
    if "MUTANT_UNDER_TEST" not in os.environ or not collection_path.is_file():
        return None
    text = collection_path.read_text("utf-8")
    away = r"subprocess|from serving import|workers|inspect\.getsource|ast\.parse"
    return True if re.search(away, text) else None


_known = 0  # modules when the collector was last told to pass them over


def pytest_runtest_setup() -> None:
    """Let the collector pass over what libraries hold: a full pass takes half a second else."""
    global _known
    if len(sys.modules) > _known + 100:
        gc.freeze()
        _known = len(sys.modules)
        if transformers := sys.modules.get("transformers.configuration_utils"):
            # it formats every configuration for a line of its log that nobody sees
            transformers.PreTrainedConfig.__repr__ = object.__repr__


@pytest.fixture(autouse=True)
def _not_quiet():
    """What is said is printed, as on the command line; nothing stays quiet for the next test."""
    output.set_up()
    yield
    console._mute = False
    console._logged_keys.clear()
