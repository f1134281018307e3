"""How templates say times and durations."""

from datetime import datetime, timedelta

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

register = template.Library()


def _clock_forms() -> tuple[str, str, str]:
    """How seconds, minutes and hours are said."""
    return _("%(seconds)s s"), _("%(minutes)s min %(seconds)s s"), _("%(hours)s h %(minutes)s min")


@register.simple_tag
def clock_forms() -> str:
    """The same for the script that lets durations go on counting, parted by ``|``."""
    return "|".join(_clock_forms())


@register.filter
def clock(span: timedelta) -> str:
    """A duration as an operator says it: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``1 h 02 min``."""
    in_seconds, in_minutes, in_hours = _clock_forms()
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 60:
        return in_seconds % {"seconds": f"{seconds:.1f}" if seconds < 10 else int(seconds)}
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return in_minutes % {"minutes": minutes, "seconds": f"{rest:02}"}
    return in_hours % {"hours": minutes // 60, "minutes": f"{minutes % 60:02}"}


@register.filter
def local_time(moment: datetime) -> str:
    """A moment by the clock of this site, with the name of its zone: all times on a page are of one zone."""
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S %Z}"


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    """The time since then, with the exact time in a tooltip."""
    if moment is None:
        return ""
    local = timezone.localtime(moment)
    if timezone.now() - moment < timedelta(minutes=1):
        text = _("just now")
    else:
        text = _("%(time)s ago") % {"time": timesince(moment, depth=1)}
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), local_time(moment), text)


@register.filter
def moment(text: str) -> datetime | None:
    """The time that an ISO 8601 text names; nothing if it names none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
