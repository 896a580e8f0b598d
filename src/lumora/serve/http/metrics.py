"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lumora.serve.hosting.pool import Pool

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server."""

    def __init__(self, pool: Pool) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lumora_requests", "Requests that were answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "lumora_request_seconds",
            "From a request's first byte to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.pictures = Counter("lumora_pictures", "Pictures that were predicted.", ["bundle"], registry=self.registry)
        self.batch_pictures = Histogram(
            "lumora_batch_pictures", "Pictures in a batch.", buckets=_SIZES, registry=self.registry
        )
        self.batch_bundles = Histogram(
            "lumora_batch_bundles", "Bundles in a batch.", buckets=_SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "lumora_batch_seconds", "How long a batch took.", buckets=_SECONDS, registry=self.registry
        )
        self.gauges = Gauges(pool)
        self.registry.register(self.gauges)

    def batch(self, pictures: int, bundles: int, seconds: float) -> None:
        """A batch was computed."""
        self.batch_pictures.observe(pictures)
        self.batch_bundles.observe(bundles)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Gauges(Collector):
    """What is so at the moment that Prometheus asks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.accepted = 0
        """Pictures that are accepted and not answered yet."""
        self.loading = 0
        """Requests beside these, whose bundles are being loaded or read."""
        self.ended_decoders: Callable[[], int] = lambda: 0

    def collect(self) -> Iterable[Metric]:
        """The values now."""
        loaded = self._pool.loaded
        for name, words, value in (
            ("lumora_accepted_pictures", "Pictures that are accepted and not answered yet.", self.accepted),
            ("lumora_waiting_requests", "Requests beside these, whose bundles are being loaded or read.", self.loading),
            ("lumora_known_bundles", "Bundles that can be asked for.", len(self._pool.names)),
            ("lumora_loaded_bundles", "Bundles in memory.", len(loaded)),
            ("lumora_loaded_bundle_bytes", "Memory of the bundles, bases left out.", sum(h.bytes for h in loaded)),
            ("lumora_loaded_bases", "Bases that bundles share.", self._pool.bases),
        ):
            yield GaugeMetricFamily(name, words, value)
        for name, words, value in (
            ("lumora_evicted_bundles", "Bundles forgotten for want of memory.", self._pool.evicted),
            ("lumora_ended_decoders", "Decoding processes that had to be ended.", self.ended_decoders()),
        ):
            yield CounterMetricFamily(name, words, value)
