"""Figures of a running server, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SPACE = "qwen2vl_rs"


class Metrics:
    """Counters of one server; each has a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, about: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(name, about, labels, namespace=_SPACE, registry=registry)

        self.requests = counter("requests", "Requests by route and status.", ["route", "status"])
        self.questions = counter("questions", "Questions answered, by model.", ["model"])
        self.passes = counter("passes", "Passes through the model.")
        self.encoded = counter("images_encoded", "Images run through the vision tower.")
        self.cache_hits = counter("image_cache_hits", "Images found encoded.")
        self.withdrawn = counter("withdrawn", "Jobs whose client left while they waited.")
        self.waiting = Gauge("waiting", "Jobs in the queue.", namespace=_SPACE, registry=registry)
        self.images = Gauge(
            "images_waiting", "Images that wait to be decoded.", namespace=_SPACE, registry=registry
        )
        self.seconds = Histogram(
            "request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["route"],
            namespace=_SPACE,
            registry=registry,
        )

    def text(self) -> bytes:
        """All of them, in the text exposition format."""
        return generate_latest(self._registry)
