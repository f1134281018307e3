from django.db import migrations

#: Until now everybody launched everywhere, and whoever had all of these edited everything that is launched.
EDITORS = {
    "projects": {"add_project", "change_project"},
    "servers": {"add_server", "change_server", "add_servergroup", "change_servergroup", "change_credential"},
}
EDITING = {(app, codename) for app, names in EDITORS.items() for codename in names}


def grant(apps, schema_editor):
    """Grant all users what they could do without grants, and say so."""
    User, Grant = apps.get_model("people", "User"), apps.get_model("people", "Grant")
    Permission = apps.get_model("auth", "Permission")
    editing = Permission.objects.filter(content_type__app_label__in=EDITORS)
    for user in User.objects.filter(is_superuser=False):
        theirs = editing.filter(user=user) | editing.filter(group__user=user)
        had = {*theirs.values_list("content_type__app_label", "codename")}
        role = "maintainer" if had >= EDITING else "operator"
        Grant.objects.create(user=user, role=role)
        lost = "" if role == "maintainer" else ", ".join(sorted(f"{app}.{name}" for app, name in had))
        print(f"\n    {user.username} is now {role} everywhere, as before.", end="")
        if lost:
            print(f" Permissions that no longer count: {lost}. Grant a role for what should be edited.", end="")


class Migration(migrations.Migration):
    dependencies = [
        ("people", "0003_teams_and_grants"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
