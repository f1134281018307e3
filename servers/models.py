"""Machines and how to reach them: credentials, servers, groups of servers."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models.functions import Coalesce, Greatest
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from people.record import Act, actor, record
from people.rights import Person, reach
from people.roles import EVERYWHERE, Action, Place
from people.statements import KeptUpdate, Slot
from servers import hosts
from servers.fields import EncryptedTextField, TagsField, is_unreadable
from servers.hosts import Endpoint
from servers.keys import fingerprint, openssh_key
from servers.sentences import told
from servers.validators import (
    validate_host,
    validate_hosts,
    validate_no_nul,
    validate_one_line,
    validate_tags,
)

#: A ``server`` has ``shown`` another host key, a fingerprint, than the one that is pinned.
host_key_changed = Signal()
#: Servers of a group that pages name where they show several groups.
SOME_SERVERS = 12


class Environment(models.TextChoices):
    """Where software runs. A project and the groups it is deployed to share one environment."""

    DEVELOPMENT = "development", _("Development")
    STAGING = "staging", _("Staging")
    PRODUCTION = "production", _("Production")


class CredentialQuerySet(models.QuerySet["Credential"]):
    """Credentials."""

    def reached_by(self, user: Person, action: Action = Action.EDIT) -> Self:
        """Those with which ``user`` may do this. Only people who may edit one are shown it."""
        return self.filter(reach(user, action).condition("environment"))


CredentialManager = models.Manager.from_queryset(CredentialQuerySet)


class Credential(models.Model):
    """A login: a user name with a private key or a password, or both for servers that want both; encrypted at rest.

    Servers log in with it; a project may use one for its git repository. It is sent to its ``hosts`` alone: patterns,
    separated by commas or lines; none at first. ``environment`` says whose it is: its maintainers see, use and edit it.
    """

    class Kind(models.TextChoices):
        SSH_KEY = "ssh_key", _("SSH key")
        PASSWORD = "password", _("Password")

    class Purpose(models.TextChoices):
        BOTH = "both", _("Servers and git")
        SERVERS = "servers", _("Servers")
        GIT = "git", _("Git")

    objects = CredentialManager()

    #: The fields that are encrypted, and never read where only the login's name is shown.
    SECRETS: ClassVar = ("private_key", "passphrase", "password")
    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    username = models.CharField(_("user name"), max_length=100, validators=[validate_one_line])
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.SSH_KEY)
    private_key = EncryptedTextField(_("private key"), blank=True, validators=[validate_no_nul])
    passphrase = EncryptedTextField(_("passphrase"), blank=True, validators=[validate_no_nul])
    password = EncryptedTextField(_("password"), blank=True, validators=[validate_no_nul])
    purpose = models.CharField(_("used for"), max_length=10, choices=Purpose, default=Purpose.BOTH)
    hosts = models.TextField(
        _("hosts"),
        blank=True,
        default="",
        validators=[validate_hosts],
        help_text=_(
            "It is sent to no other host: names, *.example.com, addresses or networks like 10.0.0.0/8, separated by "
            "commas or lines. With :2222 behind it another port is meant than the usual one, with :* any."
        ),
    )
    environment = models.CharField(
        _("environment"),
        max_length=20,
        choices=Environment,
        blank=True,
        default="",
        help_text=_("Its maintainers see and use the credential. Empty: only those of all environments."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")

    def __str__(self) -> str:
        return self.name

    @property
    def places(self) -> list[Place]:
        """Where it belongs."""
        return [Place(self.environment)]

    @property
    def seen_from(self) -> list[Place]:
        """The same: nobody is shown it through a project."""
        return self.places

    def clean(self) -> None:
        """A key must open with its passphrase; a password login needs a password."""
        if unreadable := [name for name in self.SECRETS if is_unreadable(self, name)]:
            why = _("It cannot be read with the encryption keys at hand: enter it again.")
            raise ValidationError(dict.fromkeys(unreadable, why))
        if self.kind == self.Kind.SSH_KEY:
            if not self.private_key:
                raise ValidationError({"private_key": _("A login by SSH key needs a private key.")})
            try:
                openssh_key(self.private_key, self.passphrase)
            except ValidationError as error:
                raise ValidationError({"private_key": error.messages}) from error
        elif not self.password:
            raise ValidationError({"password": _("A login by password needs a password.")})

    def has(self, name: str) -> bool | None:
        """Whether that secret is there; None for one that cannot be read."""
        return None if is_unreadable(self, name) else bool(getattr(self, name))

    def secrets(self) -> list[str]:
        """Every secret value in it, for masking."""
        return [value for name in self.SECRETS if (value := getattr(self, name))]

    @property
    def host_patterns(self) -> list[str]:
        """The patterns of the hosts that it is for."""
        return hosts.entries(self.hosts)

    def serves(self, purpose: str) -> bool:
        """Whether it may be used for ``purpose``: for servers or for git."""
        return self.purpose in {purpose, self.Purpose.BOTH}

    def is_for(self, endpoint: Endpoint, purpose: str) -> bool:
        """Whether it may be sent there."""
        return self.serves(purpose) and hosts.is_for(self.hosts, endpoint)

    def bind(self, *endpoints: Endpoint) -> None:
        """Add hosts that it is for, unless it is for them already."""
        with transaction.atomic():
            row = Credential.objects.select_for_update().only("hosts").get(pk=self.pk)
            self.hosts = hosts.with_endpoints(row.hosts, endpoints)
            if self.hosts != row.hosts:
                Credential.objects.filter(pk=self.pk).update(hosts=self.hosts, updated_at=timezone.now())
                record(actor(), Act.CHANGED, self, {"hosts": row.hosts}, {"hosts": self.hosts})


class ServerQuerySet(models.QuerySet["Server"]):
    """Servers."""

    def with_login(self) -> Self:
        """With the name of each one's login, but without its secrets, and with the jump host."""
        return self.select_related("credential", "jump_host").defer(
            *(f"credential__{name}" for name in Credential.SECRETS)
        )

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this, by the groups that they are in: one of them, or all to change it."""
        if reach(user, action).is_everywhere:
            return self
        memberships = ServerGroup.servers.through.objects
        own = ServerGroup.objects.reached_by(user, action).values("pk")
        found = self.filter(pk__in=memberships.filter(servergroup__in=own).values("server"))
        if action.changes:
            found = found.exclude(pk__in=memberships.exclude(servergroup__in=own).values("server"))
        return found


ServerManager = models.Manager.from_queryset(ServerQuerySet)


class Server(models.Model):
    """One machine, reached over SSH, perhaps through another one.

    ``host_key`` is pinned on the first connection (``ssh-ed25519 AAAA...``) or given beforehand; a server
    that shows another one later is refused. ``connection_status`` is what the last attempt found, ``facts`` what the
    last look before a deployment learned: ``machine_id``, ``boot_id``, ``system``, ``kernel``, ``shell``, ``tools``,
    ``sudo`` (without a password) and ``free`` bytes, as far as they were asked for.
    """

    class ConnectionStatus(models.TextChoices):
        UNTESTED = "untested", _("Untested")
        ONLINE = "online", _("Online")
        OFFLINE = "offline", _("Offline")

    objects = ServerManager()
    #: What connections find; a host key has entries of its own.
    UNRECORDED: ClassVar = frozenset({"connection_status", "connection_error", "last_checked_at", "facts"})
    RECORDED_TOO: ClassVar = ("groups",)

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    host = models.CharField(_("host"), max_length=253, validators=[validate_host])
    port = models.PositiveIntegerField(
        _("port"), default=22, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    credential = models.ForeignKey(
        Credential, on_delete=models.PROTECT, related_name="servers", verbose_name=_("credential")
    )
    jump_host = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="reached_through",
        verbose_name=_("jump host"),
        help_text=_("Connect through this server first."),
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Deployments skip a server that is not active, with a warning.")
    )
    tags = TagsField(
        _("tags"),
        max_length=400,
        blank=True,
        validators=[validate_tags],
        help_text=_("Words to find it by, like “web eu-west”, separated by spaces or commas."),
    )
    host_key = models.TextField(
        _("host key"),
        blank=True,
        validators=[validate_one_line],
        help_text=_("Pinned on the first connection. Clear it after the machine was reinstalled."),
    )
    connection_status = models.CharField(
        _("connection"), max_length=10, choices=ConnectionStatus, default=ConnectionStatus.UNTESTED
    )
    connection_error = models.TextField(_("last connection error"), blank=True)
    last_checked_at = models.DateTimeField(_("last checked"), null=True, blank=True)
    facts = models.JSONField(_("facts"), default=dict, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("server")
        verbose_name_plural = _("servers")
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(port__range=(1, 65535)), name="server_port_in_range"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def places(self) -> list[Place]:
        """Those of its groups; without any it stands everywhere."""
        groups = self.groups.all() if self.pk else []
        return [place for group in groups for place in group.places] or [EVERYWHERE]

    @property
    def seen_from(self) -> Iterator[Place]:
        """From wherever one of its groups is seen."""
        for group in self.groups.all() if self.pk else []:
            yield from group.seen_from

    @property
    def words(self) -> list[str]:
        """Its tags."""
        return self.tags.split()

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        """Where its login is sent to."""
        return Endpoint(self.host, self.port)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new server binds its credential to its host. Who may make one is for servers.binding to say, before."""
        is_new = self._state.adding
        super().save(*args, **kwargs)
        if is_new:
            self.credential.bind(self.endpoint)

    def clean(self) -> None:
        """A chain of jump hosts must end somewhere; a host key must be one."""
        hop, seen = self.jump_host, {self.pk}
        while hop is not None:
            if hop.pk in seen or hop is self:
                raise ValidationError({"jump_host": _("The jump hosts lead back to this server.")})
            seen.add(hop.pk)
            hop = hop.jump_host
        if self.host_key and not fingerprint(self.host_key):
            raise ValidationError({"host_key": _("A host key looks like “ssh-ed25519 AAAA…”.")})

    def route(self) -> list["Server"]:
        """The servers to connect to in turn: jump hosts first, this one last."""
        route = [self]
        while (hop := route[0].jump_host) is not None and hop not in route:
            route.insert(0, hop)
        return route

    def pin_host_key(self, key: str) -> bool:
        """Pin ``key`` if none is pinned yet. Says whether it won; either way ``host_key`` is then the pinned one."""
        with transaction.atomic():
            won = Server.objects.filter(pk=self.pk, host_key="").update(host_key=key) == 1
            if won:
                record(
                    actor(),
                    Act.PINNED_HOST_KEY,
                    self,
                    None,
                    {"host_key": key},
                    gettext_noop("Shown on the first connection."),
                )
        self.host_key = key if won else Server.objects.values_list("host_key", flat=True).get(pk=self.pk)
        return won

    def replace_host_key(self, pinned: str, key: str) -> bool:
        """Pin ``key`` in place of ``pinned``, unless another one is pinned by now. Says whether it won."""
        values = {"host_key": key, "connection_status": self.ConnectionStatus.UNTESTED, "connection_error": ""}
        with transaction.atomic():
            won = Server.objects.filter(pk=self.pk, host_key=pinned).update(**values) == 1
            if won:
                record(actor(), Act.PINNED_HOST_KEY, self, {"host_key": pinned}, {"host_key": key})
        self.refresh_from_db(fields=[*values])
        return won

    def record_connection(self, error: str = "", facts: dict[str, Any] | None = None) -> None:
        """Store what a connection found: online, or offline and why, and the ``facts`` that were learned."""
        self.connection_status = self.ConnectionStatus.OFFLINE if error else self.ConnectionStatus.ONLINE
        error = told(error)
        self.connection_error = error
        self.last_checked_at = timezone.now()
        learned = self.facts | (facts or {})
        news = {"facts": learned} if learned != self.facts else {}
        self.facts = learned
        seen = {
            "connection_status": self.connection_status,
            "connection_error": error,
            "last_checked_at": self.last_checked_at,
            **news,
        }
        _kept_connection((*seen,)).run(pk=self.pk, **seen)


@cache
def _kept_connection(names: tuple[str, ...]) -> KeptUpdate:
    """The statement of `Server.record_connection`."""
    return KeptUpdate(Server.objects.filter(pk=Slot("pk")), {name: Slot(name) for name in names})


class ServerGroupQuerySet(models.QuerySet["ServerGroup"]):
    """Groups of servers."""

    def with_some_servers(self) -> Self:
        """With the first of their servers as ``some``, and how many are not among those as ``others``."""
        some = models.Prefetch("servers", Server.objects.all()[:SOME_SERVERS], to_attr="some")
        return self.annotate(others=Greatest(number_of_servers() - SOME_SERVERS, 0)).prefetch_related(some)

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those with which ``user`` may do this. People of a project see and use its groups."""
        reached = reach(user, action)
        if action.changes or reached.is_everywhere:
            return self.filter(reached.condition("environment"))
        # ``projects`` is the other end of the projects' own field.
        within = ServerGroup.objects.filter(reached.condition("environment", "projects")).order_by()
        return self.filter(pk__in=within.values("pk"))


def number_of_servers(**lookups: Any) -> Coalesce:
    """How many servers the group of a row has; counted of those rows that are shown, not of all before."""
    members: Any = ServerGroup.servers.through.objects.filter(servergroup=models.OuterRef("pk"), **lookups)
    numbers = members.order_by().values("servergroup").annotate(n=models.Count("pk")).values("n")
    return Coalesce(models.Subquery(numbers), 0)


ServerGroupManager = models.Manager.from_queryset(ServerGroupQuerySet)


class ServerGroup(models.Model):
    """Servers of one environment that are deployed to together."""

    objects = ServerGroupManager()
    UNRECORDED: ClassVar = frozenset[str]()

    name = models.CharField(_("name"), max_length=100, unique=True, validators=[validate_one_line])
    description = models.TextField(_("description"), blank=True)
    environment = models.CharField(
        _("environment"), max_length=20, choices=Environment, default=Environment.DEVELOPMENT
    )
    servers = models.ManyToManyField(Server, related_name="groups", blank=True, verbose_name=_("servers"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = _("server group")
        verbose_name_plural = _("server groups")

    def __str__(self) -> str:
        return self.name

    @property
    def places(self) -> list[Place]:
        """Its environment."""
        return [Place(self.environment)]

    @property
    def seen_from(self) -> list[Place]:
        """Its environment, and the projects that belong to it."""
        theirs: Any = self
        projects = theirs.projects.values_list("pk", flat=True) if self.pk else []
        return [Place(self.environment), *(Place(self.environment, number) for number in projects)]

    @staticmethod
    def flatten(groups: Iterable["ServerGroup"]) -> list[Server]:
        """The servers of ``groups`` in group order, each once however many groups hold it, inactive ones too."""
        order = [group.pk for group in groups]
        memberships = ServerGroup.servers.through.objects.filter(servergroup__in=order).order_by("server__name")
        members: dict[int, list[Server]] = {pk: [] for pk in order}
        for row in memberships.select_related("server__credential", "server__jump_host"):
            members[row.servergroup_id].append(row.server)
        servers: dict[int, Server] = {}
        for server in chain.from_iterable(members.values()):
            servers.setdefault(server.pk, server)
        return list(servers.values())
