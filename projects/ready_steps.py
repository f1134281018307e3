"""Steps to pick from: for programs that need something around the switch. A pick fills the form, and is then its own.

Each was run against the program that it is for, in `tests/projects/test_ready_steps.py`, where that could be installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from projects.steps import Moment, StepKind, When


@dataclass(frozen=True)
class ReadySteps:
    """One or more steps that belong together: values of `projects.steps.Step` by its fields. ``title`` says for what.

    ``note`` is what is to be changed in them.
    """

    key: str
    title: Any
    note: Any
    steps: tuple[Mapping[str, Any], ...]


def _step(name: str, moment: str, script: str, **values: Any) -> Mapping[str, Any]:
    return {"name": name, "moment": moment, "script": script, **values}


_PYTHON = """\
[ ! -d .venv ] || . .venv/bin/activate
"""
_VIRTUALENV = """\
python3 -m venv .venv
if [ -e requirements.txt ]; then set -- -r requirements.txt; else set -- .; fi
.venv/bin/pip install --disable-pip-version-check "$@"
"""
_HAPROXY_DRAIN = """\
balancer=UNIX-CONNECT:/run/haproxy/admin.sock  # or TCP:HOST:PORT
backend=app
said=$(echo "set server $backend/$DEPLOY_SERVER state drain" | socat - "$balancer")
[ -z "$said" ] || { echo "$said" >&2; exit 1; }
sleep 5
"""
_HAPROXY_READY = """\
balancer=UNIX-CONNECT:/run/haproxy/admin.sock  # or TCP:HOST:PORT
backend=app
said=$(echo "set server $backend/$DEPLOY_SERVER state ready" | socat - "$balancer")
[ -z "$said" ] || { echo "$said" >&2; exit 1; }
"""
_NGINX_DRAIN = """\
echo "return 503;" >/etc/nginx/deployer-drained.conf
nginx -t
nginx -s reload
sleep 5
"""
_NGINX_READY = """\
rm -f /etc/nginx/deployer-drained.conf
nginx -t
nginx -s reload
"""

_SOURCE_MAPS = """\
folder=dist
find "$folder" -name '*.map' -print0 | while IFS= read -r -d '' map; do
curl --fail --silent --show-error --max-time 120 --header "Authorization: Bearer $SOURCE_MAPS_TOKEN" \
  --form "release=$DEPLOY_RELEASE" --form "name=${map#"$folder/"}" --form "file=@$map" "$SOURCE_MAPS_URL"
done
"""
_CALL = """\
curl --fail --silent --show-error --max-time 30 --header 'Content-Type: application/json' \
  --data "{\\"deployment\\": $DEPLOY_ID, \\"release\\": \\"$DEPLOY_RELEASE\\"}" "$CALL_URL"
"""

READY_STEPS = (
    ReadySteps(
        "virtualenv",
        _("Python: a virtual environment in each release"),
        _("The restart script starts what is in .venv/bin."),
        (
            _step(
                "virtual environment",
                Moment.PREPARE,
                _VIRTUALENV,
            ),
        ),
    ),
    ReadySteps(
        "npm",
        _("Node: the packages that it runs with"),
        _(
            "Needs package-lock.json in the release. Untick “install dependencies” in the project: else the release "
            "brings them too."
        ),
        (_step("packages", Moment.PREPARE, "npm ci --omit=dev --no-audit --no-fund\n"),),
    ),
    ReadySteps(
        "django",
        _("Django: migrate"),
        _("“Undone by” may name the migration to go back to: .venv/bin/python manage.py migrate APP 0004."),
        (_step("migrate", Moment.BEFORE_ALL, f"{_PYTHON}python3 manage.py migrate --noinput\n"),),
    ),
    ReadySteps(
        "django-static",
        _("Django: collect static files"),
        _("STATIC_ROOT lies in the release."),
        (_step("static files", Moment.PREPARE, f"{_PYTHON}python3 manage.py collectstatic --noinput\n"),),
    ),
    ReadySteps(
        "alembic",
        _("Alembic: upgrade"),
        _("“Undone by” takes back one revision: more of them need its name."),
        (
            _step(
                "migrate",
                Moment.BEFORE_ALL,
                f"{_PYTHON}alembic upgrade head\n",
                undone_by=f"{_PYTHON}alembic downgrade -1\n",
            ),
        ),
    ),
    ReadySteps(
        "rails",
        _("Rails: db:migrate"),
        _("“Undone by” takes back one migration: more of them need STEP=n."),
        (
            _step(
                "migrate",
                Moment.BEFORE_ALL,
                "RAILS_ENV=production bundle exec rails db:migrate\n",
                undone_by="RAILS_ENV=production bundle exec rails db:rollback\n",
            ),
        ),
    ),
    ReadySteps(
        "laravel",
        _("Laravel: migrate"),
        _("“Undone by” takes back the last batch, which is what one run of migrate has done."),
        (
            _step(
                "migrate",
                Moment.BEFORE_ALL,
                "php artisan migrate --force\n",
                undone_by="php artisan migrate:rollback --force\n",
            ),
        ),
    ),
    ReadySteps(
        "prisma",
        _("Prisma: migrate deploy"),
        _("Prisma has no way back: “undone by” stays empty."),
        (_step("migrate", Moment.BEFORE_ALL, "npx prisma migrate deploy\n"),),
    ),
    ReadySteps(
        "haproxy",
        _("HAProxy: drain and put back"),
        _("HAProxy knows the servers by the names that they have here. Needs socat, and its admin socket."),
        (
            _step("drain", Moment.BEFORE, _HAPROXY_DRAIN),
            _step("put back", Moment.AFTER, _HAPROXY_READY),
        ),
    ),
    ReadySteps(
        "nginx",
        _("nginx: drain and put back"),
        _("In the site’s server block: include /etc/nginx/deployer-drained.conf*; and run the steps as root."),
        (
            _step("drain", Moment.BEFORE, _NGINX_DRAIN),
            _step("put back", Moment.AFTER, _NGINX_READY),
        ),
    ),
    ReadySteps(
        "source-maps",
        _("On the platform: upload source maps"),
        _(
            "Needs the build variables SOURCE_MAPS_URL and SOURCE_MAPS_TOKEN. For Sentry: sentry-cli sourcemaps upload "
            '--release "$DEPLOY_RELEASE" dist'
        ),
        (_step("source maps", Moment.PREPARE, _SOURCE_MAPS, kind=StepKind.PLATFORM),),
    ),
    ReadySteps(
        "call",
        _("On the platform: call an address"),
        _("Needs the deploy variable CALL_URL. It only warns where nobody answers."),
        (_step("call", Moment.AFTER_ALL, _CALL, kind=StepKind.PLATFORM, required=False),),
    ),
    ReadySteps(
        "maintenance",
        _("A maintenance page for the whole rollout"),
        _("The web server shows it while the file is there. Shared by all servers, or the only one."),
        (
            _step("maintenance page", Moment.BEFORE_ALL, 'touch "$DEPLOY_PATH/shared/maintenance"\n'),
            _step(
                "end of maintenance",
                Moment.AFTER_ALL,
                'rm -f "$DEPLOY_PATH/shared/maintenance"\n',
                when=When.ALWAYS,
            ),
        ),
    ),
)
