"""Writes what people are to be told into the outbox, in the transaction of what happens. Nothing is sent here.

::

    tell(Event.SCHEDULE_MISSED, project=project, facts={"name": schedule.name, "reason": why})

What becomes of a deployment says itself: the models send signals, and `listen` has them heard. A notice that cannot be
written changes nothing for what it would have told.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from deployer.models import (
    Channel,
    ChannelKind,
    Deployment,
    Event,
    FailureQuestion,
    Happening,
    Notice,
    Schedule,
    ScheduleRun,
    Standing,
    TrainRun,
    Webhook,
    deployment_moved,
    drift_found,
    schedule_left_out,
    train_moved,
    trigger_paused,
)
from deployer.notices import events
from deployer.notices.facts import bounded, of_deployment, path_of
from people.models import User
from people.rights import people_who_may
from people.roles import Action, Place
from projects.models import Project
from servers.models import Server, ServerGroup, host_key_changed

logger = logging.getLogger(__name__)

#: Marks in other systems: they have no readers, and say what a deployment came to.
MARKS = frozenset({ChannelKind.GITHUB, ChannelKind.GITLAB, ChannelKind.SENTRY})
#: What somebody who wants to know of failures of their own launches is told.
_OWN_TROUBLE = events.BAD_ENDS | {Event.PAUSED}
_OWN = _OWN_TROUBLE | events.GOOD | {Event.CANCELLED, Event.EXPIRED}


def tell(
    event: Event,
    *,
    project: Project | None = None,
    deployment: Deployment | None = None,
    places: Collection[Place] = (),
    facts: Mapping[str, Any] | None = None,
    people: Iterable[User] = (),
    is_first: bool = True,
    bundle: str = "",
    once: str = "",
) -> int:
    """Write a notice for every channel that is to tell of ``event``, and for ``people`` by mail; gives how many.

    ``places`` are those that it is about, where they are not those of ``deployment`` or ``project``. ``facts`` are
    plain values: ``reason``, ``who``, ``name`` (of a schedule, a trigger, a server), ``servers`` as
    ``[{"name": ..., "error": ...}]``, ``path`` (of the page that it leads to). ``is_first``: it was not so before.
    ``bundle``: the train that it belongs to. ``once``: what was written under this name is not written again.

    Raises nothing but what makes the whole transaction fail: a database error here is logged, and undone alone.
    """
    try:
        with transaction.atomic():
            return _tell(event, project, deployment, places, facts or {}, [*people], is_first, bundle, once)
    except DatabaseError as error:
        logger.warning("nobody is told of %s: %s", event, error)
        return 0


def _tell(
    event: Event,
    project: Project | None,
    deployment: Deployment | None,
    places: Collection[Place],
    facts: Mapping[str, Any],
    people: list[User],
    is_first: bool,
    bundle: str,
    once: str,
) -> int:
    if once and Notice.objects.filter(once=once[:200]).exists():
        return 0
    project = project or (deployment.project if deployment is not None else None)
    if deployment is not None:
        facts = {**of_deployment(deployment), **facts}
    elif project is not None:
        facts = {"project": project.name, "environment": project.environment, **facts}
    if deployment is not None and deployment.train_stop is not None:
        bundle = bundle or bundle_of(deployment.train_stop.run_id)
    subject = deployment or project
    where = places or (subject.places if subject is not None else ())
    new = {
        "event": event,
        "project": project.pk if project is not None else None,
        "deployment": deployment,
        "facts": bounded(facts),
        "bundle": bundle[:60],
        "once": once[:200],
        "created_at": timezone.now(),
        "next_at": timezone.now(),
    }
    channels = [it for it in _channels(where) if wants(it, event, is_first=is_first)]
    if deployment is None:  # marks are of deployments alone
        channels = [it for it in channels if it.kind not in MARKS]
    written = [Notice.objects.create(channel=channel, **new) for channel in channels]
    launcher = deployment.created_by if deployment is not None else None
    if event == Event.TRIGGER_PAUSED and project is not None:
        people = [*people, *people_who_may(Action.EDIT, project)]
    if launcher is not None and _wants_mail(launcher, event):
        people = [launcher, *people]
    for person in {it.pk: it for it in people if _has_mail(it)}.values():
        own = (row for row, channel in zip(written, channels, strict=True) if _is_own(channel, person))
        Notice.objects.create(user=person, unless=next(own, None), **new)
    return len(written)


def bundle_of(run: int) -> str:
    """The name of what is told of one run of a train, and of its deployments."""
    return f"train:{run}"


def test_of(channel: Channel, who: str, now: datetime) -> Notice:
    """A notice that says nothing but that it came: its answer says whether the channel works."""
    return Notice.objects.create(
        channel=channel, event=Event.TEST, facts=bounded({"who": who, "path": "/"}), created_at=now, next_at=now
    )


def channels_of(project: Project) -> list[Channel]:
    """Those that tell what happens to a project, also the ones that are paused, by name."""
    rows = Channel.objects.prefetch_related("projects").defer("address").order_by("name")
    return [channel for channel in rows if channel.is_for(project.places)]


def _channels(places: Collection[Place]) -> list[Channel]:
    rows = Channel.objects.open().prefetch_related("projects").order_by("pk")
    return [channel for channel in rows if channel.is_for(places)]


def wants(channel: Channel, event: Event, *, is_first: bool = True) -> bool:
    """Whether a channel tells of an event, by its quiet rules."""
    if channel.kind in MARKS:
        return event in events.MARKED
    if event == Event.EXPIRED:
        return False
    chosen = {*channel.events}
    if event not in chosen and not (event == Event.RECOVERED and Event.SUCCEEDED in chosen):
        return False
    if channel.only_failures and event not in events.BAD | events.URGENT:
        return False
    return is_first or not channel.first_of_a_row or event not in events.IN_A_ROW


def _wants_mail(person: User, event: Event) -> bool:
    if person.mail_about == User.MailAbout.ALL:
        return event in _OWN - {Event.EXPIRED}
    return person.mail_about == User.MailAbout.FAILURES and event in _OWN_TROUBLE


def _has_mail(person: User) -> bool:
    """Whether mail reaches somebody, and may."""
    is_there = person.is_active and not person.is_service and bool(person.email)
    return is_there and person.mail_about != User.MailAbout.NEVER and bool(settings.DEPLOYER_EMAIL_FROM)


def _is_own(channel: Channel, person: User) -> bool:
    """Whether somebody is told by this channel: they have made it, or it is mail to them."""
    if channel.made_by_id == person.pk:
        return channel.kind not in MARKS
    if channel.kind != ChannelKind.MAIL:
        return False
    address = channel.address or {}
    return person.email.lower() in str(address.get("to", "")).lower().replace(",", " ").split()


# --- what says itself ------------------------------------------------------------------------------


def listen() -> None:
    """Hear what models say of deployments and servers."""
    deployment_moved.connect(_hear_deployment, dispatch_uid="notices")
    drift_found.connect(_hear_drift, dispatch_uid="notices")
    trigger_paused.connect(_hear_pause, dispatch_uid="notices")
    train_moved.connect(_hear_train, dispatch_uid="notices")
    schedule_left_out.connect(_hear_schedule, dispatch_uid="notices")
    host_key_changed.connect(_hear_host_key, dispatch_uid="notices")


def _hear_deployment(deployment: Deployment, what: Happening, **_others: Any) -> None:
    try:
        with transaction.atomic():
            rows = Deployment.objects.select_related("project", "created_by", "release", "train_stop").defer("plan")
            it = rows.get(pk=deployment.pk)
            match what:
                case Happening.LAUNCHED:
                    tell(Event.LAUNCHED, deployment=it)
                case Happening.WAITS:
                    tell(Event.WAITING, deployment=it, facts={"reason": it.note})
                case Happening.PAUSED:
                    tell(Event.PAUSED, deployment=it)
                case Happening.ASKS:
                    tell(Event.PAUSED, deployment=it, facts=_question(it))
                case Happening.ENDED:
                    _tell_end(it)
    except DatabaseError as error:
        logger.warning("nobody is told of deployment %s: %s", deployment.pk, error)


def _tell_end(it: Deployment) -> None:
    before = events.was_bad(it)
    targets = [*it.targets.defer("evidence", "proof")]
    event = events.event_of_end(it, targets, was_bad=before)
    failed = [target for target in targets if target.has_failed]
    facts = {
        "reason": it.error_message,
        "servers": [{"name": target.server_name, "error": target.error} for target in failed],
        "all": len(targets),
        "went_well": it.status == Deployment.Status.SUCCESS,
    }
    tell(event, deployment=it, facts=facts, is_first=not before)


def _question(it: Deployment) -> dict[str, Any]:
    question = FailureQuestion.objects.filter(deployment=it).order_by("-pk").first()
    failures = question.failures if question is not None else []
    servers = [{"name": failure.get("server", ""), "error": failure.get("error", "")} for failure in failures]
    return {"asks": True, "servers": servers, "all": it.targets.count()}


def _hear_train(run: TrainRun, **_others: Any) -> None:
    try:
        with transaction.atomic():
            before = events.train_was_bad(run)
            event = events.event_of_train(run, was_bad=before)
            if event is None:
                return
            stops = [*run.stops.all()]
            facts = {
                "train": run.name,
                "number": run.pk,
                "who": run.launched_by,
                "status": run.status,
                "stops": len(stops),
                "done": sum(stop.is_done for stop in stops),
                "path": path_of("train_run", run.pk),
            }
            launcher = run.created_by
            people = [launcher] if launcher is not None and _wants_mail(launcher, event) else []
            about: dict[str, Any] = {"places": run.places, "bundle": bundle_of(run.pk)}
            tell(event, facts=facts, people=people, is_first=not before, **about)
    except DatabaseError as error:
        logger.warning("nobody is told of train %s: %s", run.pk, error)


def _hear_drift(standing: int, **_others: Any) -> None:
    it = Standing.objects.whole().select_related("project").filter(pk=standing).first()
    if it is None:
        return
    servers = [{"name": it.server.name, "error": " ".join(it.drift)}]
    path = path_of("project", it.project_id)
    tell(Event.DRIFT, project=it.project, facts={"name": it.server.name, "servers": servers, "path": path})


def _hear_pause(trigger: Schedule | Webhook, reason: str, **_others: Any) -> None:
    facts = {"name": trigger.name, "reason": reason, "path": path_of("project_triggers", trigger.project_id)}
    tell(Event.TRIGGER_PAUSED, project=trigger.project, facts=facts)


def _hear_schedule(run: ScheduleRun, **_others: Any) -> None:
    schedule = run.schedule
    path = path_of("project_triggers", schedule.project_id)
    before = ScheduleRun.objects.filter(schedule=schedule).exclude(pk=run.pk).order_by("-planned_for").first()
    is_first = before is None or before.outcome not in ScheduleRun.LEFT_OUT
    facts = {"name": schedule.name, "reason": run.why, "path": path}
    tell(Event.SCHEDULE_MISSED, project=schedule.project, facts=facts, is_first=is_first)


def _hear_host_key(server: Server, shown: str, **_others: Any) -> None:
    if Server.objects.filter(pk=server.pk, host_key=server.host_key).exists():  # else somebody has just replaced it
        groups = ServerGroup.objects.filter(servers=server).prefetch_related("projects")
        places = {Place(group.environment) for group in groups}
        places |= {place for group in groups for project in group.projects.all() for place in project.places}
        facts = {"name": server.name, "key": shown, "path": path_of("server", server.pk)}
        once = f"host key {server.pk} {shown}"
        tell(Event.HOST_KEY, places=[*places], facts=facts, once=once)
