"""A picture of what belongs to a whole process: settings that a library must leave as they are."""

from __future__ import annotations

import asyncio
import csv
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any

# whoever imports these gets what they change at that; it is not ours
LIBRARIES = (
    "accelerate", "fastapi", "httpx", "huggingface_hub", "huggingface_hub.file_download", "jinja2",
    "modelscope_hub", "modelscope_hub._download", "numpy", "pandas", "peft", "PIL.Image",
    "PIL.ImageFile", "pyarrow", "pyogrio", "rasterio", "rasterio.warp", "rich.progress",
    "safetensors.torch", "shapely", "tokenizers", "torch", "torch.nn.attention.flex_attention",
    "transformers", "uvicorn",
)  # fmt: skip
GDAL = (
    "GDAL_DISABLE_READDIR_ON_OPEN", "GDAL_GEOREF_SOURCES", "GDAL_PNG_WHOLE_IMAGE_OPTIM",
    "GDAL_PAM_ENABLED", "GDAL_NUM_THREADS", "GDAL_CACHEMAX", "OGR_CURRENT_DATE", "OSM_CONFIG_FILE",
    "OSM_USE_CUSTOM_INDEXING", "CPL_LOG", "CPL_DEBUG", "GDAL_TIFF_INTERNAL_MASK",
)  # fmt: skip
_FETCHES = "huggingface_hub.http_get"


def picture() -> dict[str, Any]:
    """All of it, by name, as texts that can be compared."""
    found = {**_of_python(), **_of_libraries()}
    return {name: repr(value) for name, value in found.items()}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is other than it was; of settings that were not there before nothing is said."""
    return [
        f"{name}: {before[name][:150]} → {after[name][:150]}"
        for name in before
        if after.get(name) != before[name]
    ]


def _of_python() -> dict[str, Any]:
    umask = os.umask(0)
    os.umask(umask)
    found = {f"environment {name}": value for name, value in os.environ.items()}
    found |= {
        "environment": sorted(os.environ),
        "folder": os.getcwd(),
        "umask": umask,
        "csv": csv.field_size_limit(),
        "decimal": decimal.getcontext(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
        "locale": locale.setlocale(locale.LC_ALL),
        "time": time.tzname,
        "start method": multiprocessing.get_start_method(),
        "timeout of sockets": socket.getdefaulttimeout(),
        "random": random.getstate(),
        "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource)
                   if n.startswith("RLIMIT_")},
        "signals": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "timers": signal.getitimer(signal.ITIMER_REAL),
        "warnings": warnings.filters,
        "shown warnings": (warnings.showwarning, warnings.formatwarning),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook),
        "trace": (sys.gettrace(), sys.getprofile()),
        "path": sys.path,
        "depth": (sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()),
        "loops": asyncio.get_event_loop_policy(),
        "running loop": asyncio._get_running_loop(),
        "threads": threading.stack_size(),
        "logging": (logging.raiseExceptions, logging.lastResort, logging.getLoggerClass(),
                    logging.getLogRecordFactory(), logging.root.manager.disable),
        "last resort": logging.lastResort and vars(logging.lastResort),
    }  # fmt: skip
    loggers = {n: one for n, one in logging.root.manager.loggerDict.items() if n != "qwen2vl_rs"}
    for name, one in {"root": logging.root, **loggers}.items():
        if isinstance(one, logging.Logger):
            kept = (one.level, one.handlers, one.filters, one.propagate, one.disabled)
            found[f"logger {name}"] = kept
    return found


def _of_libraries() -> dict[str, Any]:
    import huggingface_hub
    import modelscope_hub._download
    import numpy as np
    import pandas as pd
    import pyogrio
    import torch
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled
    from PIL import Image, ImageFile
    from rasterio import env
    from rasterio._env import get_gdal_config
    from torch.backends import cuda, cudnn
    from transformers.utils import logging as hf

    found = {f"hub {n}": v for n, v in vars(constants).items() if n.isupper()}
    found |= {f"GDAL {n}": (get_gdal_config(n), pyogrio.get_gdal_config_option(n)) for n in GDAL}
    return found | {
        "hub bars": (are_progress_bars_disabled(), are_progress_bars_disabled(_FETCHES)),
        "modelscope's bars": modelscope_hub._download.tqdm,
        "hub clients": (huggingface_hub.get_session, modelscope_hub.HubApi),
        "rasterio": (env.local._env, env.local._discovered_options),
        "numpy": (np.geterr(), np.get_printoptions(), np.geterrcall(), np.getbufsize()),
        "numpy's random": [*map(str, np.random.get_state())],
        "pandas": (pd.options.display.max_rows, pd.options.mode.copy_on_write),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK),
        "transformers": (hf.get_verbosity(), hf.is_progress_bar_enabled()),
        "torch's random": torch.get_rng_state().tolist(),
        "torch": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
                  torch.get_num_interop_threads(), torch.get_float32_matmul_precision(),
                  torch.are_deterministic_algorithms_enabled(), torch.is_inference_mode_enabled(),
                  torch.get_default_device(), torch.is_anomaly_enabled()),
        "torch's print": vars(torch._tensor_str.PRINT_OPTS),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "cuda": (cuda.matmul.allow_tf32, cuda.cudnn_sdp_enabled(), cuda.flash_sdp_enabled(),
                 cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
        "mkldnn": torch.backends.mkldnn.enabled,
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
    }  # fmt: skip
