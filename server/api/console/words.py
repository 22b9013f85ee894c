"""What templates say of times, numbers and bytes; the script of the pages shows times in the viewer's own zone."""

from datetime import UTC, datetime, timedelta

from markupsafe import Markup

# An end that is nearer than this is shown as a warning, then as a fault.
SOON, VERY_SOON = timedelta(days=90), timedelta(days=14)
_UNITS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))
# Of fewer the next smaller unit tells, as what is cut off may be nearly half: a new certificate of two years, less a
# minute, is no "1 year".
_AT_LEAST = {"year": 2, "month": 3}


def read_time(value: datetime | str | None) -> datetime | None:
    """A time of the record, or one as the API writes it."""
    if value is None or value == "":
        return None
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def moment(value: datetime | str | None) -> Markup:
    """A time to the second, in UTC until the script puts it into the viewer's zone; UTC stays on hover."""
    at = read_time(value)
    return _time(at, f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", "moment") if at is not None else Markup("–")


def day(value: datetime | str | None) -> Markup:
    """A time of which only the day matters."""
    at = read_time(value)
    return _time(at, f"{at.astimezone(UTC):%Y-%m-%d}", "day") if at is not None else Markup("–")


def relative(value: datetime | str | None, now: datetime) -> Markup:
    """`3 hours ago`, `in 41 days`; the exact time on hover."""
    at = read_time(value)
    return _time(at, distance(at - now), "relative") if at is not None else Markup("–")


def distance(span: timedelta) -> str:
    """A span in its largest whole unit, past or future."""
    seconds = abs(span.total_seconds())
    for length, unit in _UNITS:
        count = int(seconds // length)
        if count >= _AT_LEAST.get(unit, 1):
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            break
    else:
        text = f"{int(seconds)} s"
    if seconds < 1:
        return "now"
    return f"in {text}" if span > timedelta(0) else f"{text} ago"


def urgency(value: datetime | str | None, now: datetime) -> str:
    """How near an end is: `ok`, `warn`, `fail`."""
    at = read_time(value)
    if at is None or at - now > SOON:
        return "ok"
    return "warn" if at - now > VERY_SOON else "fail"


def fingerprint(value: bytes | str) -> str:
    """Hexadecimal in pairs, as OpenSSL and browsers show it."""
    text = value.hex() if isinstance(value, bytes) else value
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2)).upper()


def number(value: int) -> str:
    """A whole number with thin spaces."""
    return f"{value:,}".replace(",", "\u2009")


def _time(at: datetime, text: str, kind: str) -> Markup:
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC" data-time="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%S}Z", f"{utc:%Y-%m-%d %H:%M:%S}", kind, text
    )
