"""Qwen2-VL-RS: fine-tune Qwen2-VL on questions about satellite and aerial images."""

__version__ = "0.1.0.dev0"
