"""What a process counts: plain numbers bumped on the hot path, merged by the parent and shown by Prometheus.

A worker keeps one `Metrics` and sends its snapshot to the parent each second; `Merged` adds the snapshots up (a dead
worker's last one stays in the sum) and is a collector for prometheus-client. Every series is present from the start.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from lwm2m.bootstrap import FailureCause
from lwm2m.coap.events import MessageFault
from server.store.certificate_enrollments import RESULTS
from server.transport.counters import DROPS
from server.transport.engine import RefusalReason

# Upper bounds of a duration in seconds; from a piggybacked bootstrap on loopback to the longest session.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Of a wait in the kernel's queue: fine where it matters, up to the longest that a device would bear.
QUEUE_BUCKETS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)


class Counted:
    """A counter with at most one label, whose values are known beforehand."""

    __slots__ = ("help", "label", "name", "values")

    def __init__(self, name: str, help: str, label: str = "", values: Iterable[str] = ("",)) -> None:
        self.name = name
        self.help = help
        self.label = label
        self.values = dict.fromkeys(values, 0)

    def inc(self, value: str = "", by: int = 1) -> None:
        """Count `by` more of `value`."""
        self.values[value] += by


class Measured:
    """A histogram; `bounds` are upper ones in seconds, ascending."""

    __slots__ = ("bounds", "counts", "help", "name", "total")

    def __init__(self, name: str, help: str, bounds: Sequence[float] = BUCKETS) -> None:
        self.name = name
        self.help = help
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class Metrics:
    """The numbers of one process; attribute names are the catalogue (docs/metrics.md)."""

    def __init__(self) -> None:
        self.datagrams = Counted(
            "firstlight_datagrams_total",
            "Datagrams by direction.",
            "direction",
            ("received", "sent", "dropped"),
        )
        self.drops = Counted(
            "firstlight_drops_total",
            "Datagrams, ClientHellos and connections that went no further, by reason.",
            "reason",
            DROPS,
        )
        self.cookies = Counted("firstlight_dtls_cookies_total", "HelloVerifyRequests sent.")
        self.handshakes = Counted(
            "firstlight_dtls_handshakes_total",
            "DTLS handshakes by outcome.",
            "outcome",
            ("started", "completed", "failed"),
        )
        self.tls_handshakes = Counted(
            "firstlight_tls_handshakes_total",
            "TLS handshakes over TCP by outcome.",
            "outcome",
            ("started", "completed", "failed"),
        )
        self.tls_dropped = Counted(
            "firstlight_tls_connections_dropped_total",
            "TCP connections ended by a limit, a stop or a peer that takes no answer.",
        )
        self.refusals = Counted(
            "firstlight_refusals_total",
            "Peers seen and not admitted, by reason.",
            "reason",
            tuple(reason.value for reason in RefusalReason),
        )
        self.refusals_unlisted = Counted(
            "firstlight_refusals_unlisted_total",
            "Refusals that `device seen` does not list, as more came at once than are written.",
        )
        self.coap_refusals = Counted(
            "firstlight_coap_refusals_total",
            "Messages of connected devices that reached no resource or were refused by one, by reason.",
            "reason",
            (*(fault.value for fault in MessageFault), "path", "method", "resource"),
        )
        self.bootstraps = Counted(
            "firstlight_bootstraps_total",
            "Bootstrap sessions by outcome.",
            "outcome",
            ("started", "succeeded", "failed"),
        )
        self.failures = Counted(
            "firstlight_bootstrap_failures_total",
            "Failed bootstrap sessions by cause.",
            "cause",
            tuple(cause.value for cause in FailureCause),
        )
        self.issuances = Counted(
            "firstlight_issuances_total",
            "Issuances by the state they reached.",
            "state",
            (
                "requested",
                "submitted",
                "pending",
                "issued",
                "delivered",
                "failed",
                "refused",
                "bad",
                "unknown",
                "abandoned",
            ),
        )
        self.registrations = Counted(
            "firstlight_registrations_total",
            "Registrations of devices by what became of them.",
            "operation",
            ("registered", "updated", "deregistered", "expired", "refused"),
        )
        self.certificate_enrollments = Counted(
            "firstlight_certificate_enrollments_total",
            "Renewals that people asked for, by result.",
            "result",
            RESULTS,
        )
        self.checks = Counted(
            "firstlight_certificate_checks_total",
            "Certificates judged with their whole path: a device's own, and one that a CA issued.",
            "of",
            ("device", "issued"),
        )
        self.enrollments = Counted(
            "firstlight_enrollments_total",
            "EST requests for a certificate by outcome; later = answered 5.03.",
            "outcome",
            ("started", "delivered", "later", "failed"),
        )
        self.enrollment_failures = Counted(
            "firstlight_enrollment_failures_total",
            "Failed EST requests for a certificate by cause.",
            "cause",
            tuple(cause.value for cause in FailureCause),
        )
        self.shed = Counted("firstlight_shed_total", "Bootstrap-Requests answered 5.03 because of load.")
        self.internal_errors = Counted("firstlight_internal_errors_total", "Faults of ours, logged in full.")
        self.bootstrap_seconds = Measured("firstlight_bootstrap_seconds", "Bootstrap-Request to Finish, in seconds.")
        self.enrollment_seconds = Measured(
            "firstlight_enrollment_seconds", "EST request to certificate delivered, in seconds."
        )
        self.issue_seconds = Measured("firstlight_issue_seconds", "Issuance intent to checked certificate, in seconds.")
        self.commit_seconds = Measured("firstlight_commit_seconds", "One group commit, in seconds.")
        self.queue_seconds = Measured(
            "firstlight_queue_seconds",
            "A datagram's wait in the kernel, in seconds; measured with server.measure_queue only.",
            QUEUE_BUCKETS,
        )
        self.sessions = Gauge("firstlight_sessions", "Bootstrap sessions under way.")
        self.awaiting_est = Gauge(
            "firstlight_awaiting_est", "Associations kept after their Finish for an EST certificate."
        )
        self.associations = Gauge("firstlight_associations", "DTLS associations established.")
        self.handshaking = Gauge("firstlight_handshaking", "DTLS handshakes under way.")
        self.tls_associations = Gauge("firstlight_tls_associations", "TLS connections established.")
        self.tls_handshaking = Gauge("firstlight_tls_handshaking", "TLS handshakes over TCP under way.")
        self.registered = Gauge("firstlight_registered", "Devices registered.")

    def _all(self) -> Iterator[tuple[str, "Counted | Measured | Gauge"]]:
        yield from vars(self).items()

    def snapshot(self) -> dict[str, object]:
        """Every number, as JSON values for the parent."""
        taken: dict[str, object] = {}
        for attribute, metric in self._all():
            match metric:
                case Counted():
                    taken[attribute] = dict(metric.values)
                case Measured():
                    taken[attribute] = [*metric.counts, metric.total]
                case Gauge():
                    taken[attribute] = metric.value
        return taken


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("help", "name", "value")

    def __init__(self, name: str, help: str) -> None:
        self.name = name
        self.help = help
        self.value = 0


class Merged:
    """A prometheus-client collector over the newest snapshot of every worker, and what those before them counted."""

    def __init__(self) -> None:
        self._snapshots: dict[int, Mapping[str, object]] = {}
        # The sums of the processes that ended, without gauges: one that dies again and again leaves no more than that.
        self._before: dict[str, object] = {}

    def take(self, process: int, snapshot: Mapping[str, object]) -> None:
        """Keep the newest `snapshot` of process number `process` (unique over restarts)."""
        self._snapshots[process] = snapshot

    def ended(self, process: int) -> None:
        """The process ended: its counters stay in the sums, its gauges are zero."""
        for attribute, part in self._snapshots.pop(process, {}).items():
            before = self._before.get(attribute)
            match part:
                case dict():
                    sums = before if isinstance(before, dict) else {}
                    self._before[attribute] = {value: count + sums.get(value, 0) for value, count in part.items()}
                case list():
                    columns = (part, before) if isinstance(before, list) else (part,)
                    self._before[attribute] = [sum(column) for column in zip(*columns, strict=True)]

    def counter(self, attribute: str) -> dict[str, int]:
        """The sums of a counter of `Metrics`, by its label."""
        sums: dict[str, int] = {}
        for part in self._parts(attribute):
            if isinstance(part, dict):
                for value, count in part.items():
                    sums[value] = sums.get(value, 0) + count
        return sums

    def histogram(self, attribute: str) -> list[float]:
        """The sums of a histogram of `Metrics`: a count for each bucket, then the total."""
        parts = [part for part in self._parts(attribute) if isinstance(part, list)]
        return [float(sum(column)) for column in zip(*parts, strict=True)]

    def gauge(self, attribute: str) -> int:
        """The sum of a gauge of `Metrics` over the processes that live."""
        return sum(part for part in self._parts(attribute) if isinstance(part, int))

    def _parts(self, attribute: str) -> list[object]:
        snapshots = (*self._snapshots.values(), self._before)
        return [snapshot[attribute] for snapshot in snapshots if attribute in snapshot]

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily | GaugeMetricFamily]:
        """The families prometheus-client asks for."""
        for attribute, metric in Metrics()._all():
            parts = self._parts(attribute)
            match metric:
                case Counted():
                    counter = CounterMetricFamily(
                        metric.name.removesuffix("_total"),
                        metric.help,
                        labels=[metric.label] if metric.label else [],
                    )
                    for value in metric.values:
                        total = sum(part.get(value, 0) for part in parts if isinstance(part, dict))
                        counter.add_metric([value] if metric.label else [], total)
                    yield counter
                case Measured():
                    sums = [0.0] * (len(metric.bounds) + 2)
                    for part in parts:
                        if isinstance(part, list):
                            sums = [a + b for a, b in zip(sums, part, strict=True)]
                    yield _histogram(metric, sums)
                case Gauge():
                    yield GaugeMetricFamily(
                        metric.name, metric.help, value=sum(part for part in parts if isinstance(part, int))
                    )


def _histogram(metric: Measured, sums: list[float]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.help)
    running = 0.0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*(str(b) for b in metric.bounds), "+Inf"), sums[:-1], strict=True):
        running += count
        buckets.append((bound, running))
    family.add_metric([], buckets, sum_value=sums[-1])
    return family
