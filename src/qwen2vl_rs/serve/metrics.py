"""Prometheus metrics of a running server."""

from __future__ import annotations

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        of_all: dict[str, Any] = {"namespace": "qwen2vl_rs", "registry": registry}
        self.requests = Counter(
            "requests", "Requests by route and status.", ["route", "status"], **of_all
        )
        self.questions = Counter("questions", "Questions answered, by model.", ["model"], **of_all)
        self.passes = Counter("passes", "Passes through the model.", **of_all)
        self.encoded = Counter("images_encoded", "Images run through the vision tower.", **of_all)
        self.cache_hits = Counter("image_cache_hits", "Images found encoded.", **of_all)
        self.withdrawn = Counter("withdrawn", "Jobs whose client left while they waited.", **of_all)
        self.waiting = Gauge("waiting", "Jobs in the queue.", **of_all)
        self.images = Gauge("images_waiting", "Images that wait to be decoded.", **of_all)
        about = "Seconds from a request's head to the end of its answer."
        self.seconds = Histogram("request_seconds", about, ["route"], **of_all)

    def text(self) -> bytes:
        """Return all metrics in the text exposition format."""
        return generate_latest(self._registry)
