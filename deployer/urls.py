"""Addresses of the whole site, grouped by what they serve."""

from importlib import import_module

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, include, path

from deployer.api.endpoints import api
from deployer.web import (
    actions,
    archiving,
    board,
    changes,
    channels,
    ci,
    commands,
    compare,
    config_files,
    deployment,
    drained,
    find,
    gates,
    groups,
    history,
    home,
    hooks,
    launch,
    logs,
    new_project,
    people,
    playground,
    projects,
    record,
    releases,
    schedules,
    servers,
    services,
    since,
    system,
    trains,
    triggers,
    waiting,
    webhooks,
)
from people.access import superusers_only
from projects.urls import template_urls


def for_superusers(module: str) -> tuple[list[URLPattern], str]:
    """The addresses of ``module`` for `include`, each closed to everybody but superusers.

    Its figures for Prometheus are left out: those of the whole site are at /metrics.
    """
    urls = import_module(module)
    patterns = [
        URLPattern(row.pattern, superusers_only(row.callback), row.default_args, row.name)
        for row in urls.urlpatterns
        if not str(row.name).endswith("metrics")
    ]
    return patterns, urls.app_name


handler403 = "people.access.refused"
handler404 = "people.meanwhile.not_found"

deployment_urls = [
    path("poll/", deployment.deployment_poll, name="deployment_poll"),
    path("", deployment.deployment, name="deployment"),
    path("server/", deployment.deployment_server, name="deployment_server"),
    path("earlier/", deployment.deployment_earlier, name="deployment_earlier"),
    path("turn/", waiting.deployment_turn, name="deployment_turn"),
    path("later/", deployment.deployment_later, name="deployment_later"),
    path("around/", deployment.deployment_around, name="deployment_around"),
    path("find/", deployment.deployment_find, name="deployment_find"),
    path("error/", deployment.deployment_error, name="deployment_error"),
    path("moment/", deployment.deployment_moment, name="deployment_moment"),
    path("compare/", compare.deployment_previous, name="deployment_previous"),
    path("changes/", changes.deployment_changes, name="deployment_changes"),
    path("variables/", compare.deployment_variables, name="deployment_variables"),
    path("log/", deployment.deployment_log, name="deployment_log"),
    path("cancel/", actions.deployment_cancel, name="deployment_cancel"),
    path("continue/", actions.deployment_continue, name="deployment_continue"),
    path("abort/", actions.deployment_abort, name="deployment_abort"),
    path("answer/", actions.deployment_answer, name="deployment_answer"),
    path("retry/", actions.deployment_retry, name="deployment_retry"),
    path("rollback/", actions.deployment_rollback, name="deployment_rollback"),
    path("again/", actions.deployment_again, name="deployment_again"),
    path("drained/", drained.deployment_drained, name="deployment_drained"),
    path("decide/", gates.deployment_decide, name="deployment_decide"),
    path("override/", gates.deployment_override, name="deployment_override"),
]

command_urls = [
    path("", commands.commands, name="commands"),
    path("add/", commands.command_add, name="command_add"),
    path("run/", commands.command_form, name="command_form"),
    path("<int:pk>/", commands.command, name="command"),
    path("<int:pk>/delete/", commands.command_delete, name="command_delete"),
    path("runs/<int:pk>/", commands.command_run, name="command_run"),
    path("runs/<int:pk>/poll/", commands.command_poll, name="command_poll"),
    path("runs/<int:pk>/earlier/", commands.command_earlier, name="command_earlier"),
    path("runs/<int:pk>/log/", commands.command_log, name="command_log"),
    path("runs/<int:pk>/cancel/", commands.command_cancel, name="command_cancel"),
]

train_urls = [
    path("runs/<int:pk>/poll/", trains.train_poll, name="train_poll"),
    path("", trains.trains, name="trains"),
    path("add/", trains.train_add, name="train_add"),
    path("<int:pk>/", trains.train, name="train"),
    path("<int:pk>/yaml/", trains.train_yaml, name="train_yaml"),
    path("<int:pk>/plan/", trains.train_plan, name="train_plan"),
    path("<int:pk>/edit/", trains.train_edit, name="train_edit"),
    path("<int:pk>/delete/", trains.train_delete, name="train_delete"),
    path("runs/<int:pk>/", trains.train_run, name="train_run"),
    path("runs/<int:pk>/decide/", trains.train_decide, name="train_decide"),
    path("runs/<int:pk>/continue/", trains.train_continue, name="train_continue"),
    path("runs/<int:pk>/halt/", trains.train_halt, name="train_halt"),
    path("runs/<int:pk>/rollback/", trains.train_roll_back, name="train_roll_back"),
    path("runs/<int:pk>/cancel/", trains.train_cancel, name="train_cancel"),
    path("runs/<int:pk>/stops/<int:number>/without/", trains.train_without, name="train_without"),
    path("runs/<int:pk>/stops/<int:number>/again/", trains.train_again, name="train_again"),
]

gate_urls = [
    path("", gates.gates, name="gates"),
    path("hold/", gates.hold, name="hold"),
    path("hold/lift/", gates.hold_lift, name="hold_lift"),
    path("locks/add/", gates.lock_add, name="lock_add"),
    path("locks/<int:pk>/lift/", gates.lock_lift, name="lock_lift"),
    path("freezes/add/", gates.freeze_add, name="freeze_add"),
    path("freezes/<int:pk>/", gates.freeze_edit, name="freeze_edit"),
    path("freezes/<int:pk>/delete/", gates.freeze_delete, name="freeze_delete"),
    path("rules/add/", gates.rule_add, name="rule_add"),
    path("rules/<int:pk>/", gates.rule_edit, name="rule_edit"),
    path("rules/<int:pk>/delete/", gates.rule_delete, name="rule_delete"),
]

channel_urls = [
    path("", channels.channels, name="channels"),
    path("add/", channels.channel_add, name="channel_add"),
    path("<int:pk>/", channels.channel, name="channel"),
    path("<int:pk>/edit/", channels.channel_edit, name="channel_edit"),
    path("<int:pk>/yaml/", channels.channel_yaml, name="channel_yaml"),
    path("<int:pk>/notices/", channels.channel_notices, name="channel_notices"),
    path("<int:pk>/test/", channels.channel_test, name="channel_test"),
    path("<int:pk>/pause/", channels.channel_pause, name="channel_pause"),
    path("<int:pk>/delete/", channels.channel_delete, name="channel_delete"),
]

urlpatterns = [
    # Addresses are looked through in their order: those that pages ask for again and again come first.
    path("deployments/<int:pk>/", include(deployment_urls)),
    path("activity/", home.activity, name="activity"),
    path("overview/", home.overview, name="overview"),
    path("", home.home, name="home"),
    path("find/", find.find_anything, name="find"),
    path("deployments/filters/", history.filter_keep, name="filter_keep"),
    path("deployments/export/", history.deployment_export, name="deployments_export"),
    path("deployments/", history.deployment_list, name="deployments"),
    path("deployments/compare/", compare.deployment_compare, name="deployment_compare"),
    path("deployments/compare/commits/", compare.compare_commits, name="compare_commits"),
    path("playground/", playground.playground_page, name="playground"),
    path("playground/make/", playground.playground_make, name="playground_make"),
    path("playground/remove/", playground.playground_remove, name="playground_remove"),
    path("record/", record.record_page, name="record"),
    path("system/", system.system_page, name="system"),
    path("record/export/", record.record_export, name="record_export"),
    path("hooks/<str:secret>/", hooks.hook, name="hook"),
    path("deployer-ci.py", ci.ci_file, name="ci_file"),
    path("deployer-ci.py.sha256", ci.ci_digest, name="ci_digest"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("projects/", projects.project_list, name="projects"),
    path("projects/<int:pk>/", projects.project, name="project"),
    path("projects/add/", new_project.project_add, name="project_add"),
    path("projects/add/look/", new_project.project_add_look, name="project_add_look"),
    path("projects/add/find/", new_project.project_add_find, name="project_add_find"),
    path("projects/<int:pk>/launch/", launch.launch_form, name="launch"),
    path("projects/<int:pk>/check/", launch.launch_check, name="launch_check"),
    path("projects/<int:pk>/board/", board.project_board, name="project_board"),
    path("projects/<int:pk>/beside/", home.project_beside, name="project_beside"),
    path("projects/<int:pk>/favourite/", home.project_favourite, name="project_favourite"),
    path("projects/<int:pk>/places/", home.project_places, name="project_places"),
    path("projects/<int:pk>/look/", board.project_look, name="project_look"),
    path("projects/<int:pk>/launch/servers/", launch.launch_servers, name="launch_servers"),
    path("projects/<int:pk>/changes/", changes.launch_changes, name="launch_changes"),
    path("projects/<int:pk>/names/", changes.launch_names, name="launch_names"),
    path("projects/<int:pk>/fetch/", changes.launch_fetch, name="launch_fetch"),
    path("projects/<int:pk>/variables/history/", compare.project_history, name="project_history"),
    path("projects/<int:pk>/effective/", projects.project_effective, name="project_effective"),
    path("projects/<int:pk>/builds/", projects.project_builds, name="project_builds"),
    path("projects/<int:pk>/caches/clear/", projects.project_clear, name="project_clear"),
    path("projects/<int:pk>/since/", since.project_since, name="project_since"),
    path("projects/<int:pk>/archive/", archiving.project_archive, name="project_archive"),
    path("projects/<int:pk>/restore/", archiving.project_restore, name="project_restore"),
    path("projects/<int:pk>/delete/", archiving.project_delete, name="project_delete"),
    path("projects/<int:pk>/yaml/", projects.project_yaml, name="project_yaml"),
    path("projects/<int:pk>/checks/<int:check>/try/", projects.project_try, name="project_try"),
    path("projects/<int:pk>/services/find/", services.project_find, name="project_find"),
    path("projects/<int:pk>/services/take/", services.project_take, name="project_take"),
    path("projects/<int:pk>/files/", config_files.project_files, name="project_files"),
    path("projects/<int:pk>/files/add/", config_files.project_file_add, name="project_file_add"),
    path(
        "projects/<int:pk>/files/differences/", config_files.project_files_differences, name="project_files_differences"
    ),
    path("projects/files/<int:pk>/", config_files.config_file, name="config_file"),
    path("projects/files/<int:pk>/versions/", config_files.config_file_versions, name="config_file_versions"),
    path("projects/files/<int:pk>/delete/", config_files.config_file_delete, name="config_file_delete"),
    path("projects/<int:pk>/triggers/", triggers.project_triggers, name="project_triggers"),
    path("projects/<int:pk>/webhooks/add/", webhooks.webhook_add, name="webhook_add"),
    path("projects/webhooks/<int:pk>/", webhooks.webhook, name="webhook"),
    path("projects/webhooks/<int:pk>/edit/", webhooks.webhook_edit, name="webhook_edit"),
    path("projects/webhooks/<int:pk>/delete/", webhooks.webhook_delete, name="webhook_delete"),
    path("projects/webhooks/<int:pk>/renew/", webhooks.webhook_renew, name="webhook_renew"),
    path("projects/webhooks/<int:pk>/pause/", webhooks.webhook_pause, name="webhook_pause"),
    path("projects/webhooks/<int:pk>/take/", webhooks.webhook_take, name="webhook_take"),
    path("projects/webhooks/<int:pk>/test/", webhooks.webhook_test, name="webhook_test"),
    path("projects/webhooks/deliveries/<int:pk>/", webhooks.delivery, name="delivery"),
    path("projects/webhooks/deliveries/<int:pk>/again/", webhooks.delivery_again, name="delivery_again"),
    path("projects/<int:pk>/triggers/hold/", triggers.project_triggers_hold, name="project_triggers_hold"),
    path("projects/<int:pk>/triggers/lift/", triggers.project_triggers_lift, name="project_triggers_lift"),
    path("projects/<int:pk>/schedules/add/", schedules.schedule_add, name="schedule_add"),
    path("projects/<int:pk>/schedules/preview/", schedules.schedule_preview, name="schedule_preview"),
    path("projects/schedules/<int:pk>/", schedules.schedule, name="schedule"),
    path("projects/schedules/<int:pk>/pause/", schedules.schedule_pause, name="schedule_pause"),
    path("projects/schedules/<int:pk>/resume/", schedules.schedule_resume, name="schedule_resume"),
    path("projects/schedules/<int:pk>/take/", schedules.schedule_take, name="schedule_take"),
    path("projects/schedules/<int:pk>/run/", schedules.schedule_run, name="schedule_run"),
    path("projects/schedules/<int:pk>/delete/", schedules.schedule_delete, name="schedule_delete"),
    path("projects/<int:pk>/logs/", logs.project_logs, name="project_logs"),
    path("projects/<int:pk>/logs/<int:follow>/", logs.log_follow, name="log_follow"),
    path("projects/<int:pk>/logs/<int:follow>/poll/", logs.log_poll, name="log_poll"),
    path("projects/<int:pk>/releases/", releases.release_list, name="releases"),
    path("projects/<int:pk>/releases/<int:release>/mark/", gates.release_mark, name="release_mark"),
    path("projects/", include("projects.urls")),
    path("templates/<int:pk>/yaml/", projects.template_yaml, name="template_yaml"),
    path("templates/", include(template_urls)),
    path("servers/", servers.server_list, name="servers"),
    path("servers/test/", servers.servers_test, name="servers_test"),
    path("servers/<int:pk>/", servers.server, name="server"),
    path("servers/<int:pk>/test/", servers.server_test, name="server_test"),
    path("servers/<int:pk>/look/", servers.server_look, name="server_look"),
    path("servers/<int:pk>/since/", since.server_since, name="server_since"),
    path("servers/groups/", groups.group_list, name="groups"),
    path("servers/groups/<int:pk>/", groups.group, name="group"),
    path("servers/commands/", include(command_urls)),
    path("servers/credentials/", servers.credential_list, name="credentials"),
    path("servers/", include("servers.urls")),
    path("trains/", include(train_urls)),
    path("gates/", include(gate_urls)),
    path("channels/", include(channel_urls)),
    path("people/<int:pk>/", people.user, name="user"),
    path("", include("people.urls")),
    path("api/v1/", api.urls),
    path("admin/", admin.site.urls),
    path("rq/", include(for_superusers("django_rq.urls"))),
]
