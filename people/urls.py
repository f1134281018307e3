"""Addresses of people's pages; deployer.urls has the page of a user, which shows what they deployed."""

from django.urls import include, path

from people.views import account, joining, teams, users

user_urls = [
    path("link/", users.user_link, name="user_link"),
    path("grants/add/", users.user_grant, name="user_grant"),
    path("deactivate/", users.user_deactivate, name="user_deactivate"),
    path("reactivate/", users.user_reactivate, name="user_reactivate"),
    path("sessions/end/", users.user_sessions_end, name="user_sessions_end"),
    path("tokens/add/", users.user_token_add, name="user_token_add"),
    path("tokens/<int:token>/revoke/", users.user_token_revoke, name="user_token_revoke"),
]

team_urls = [
    path("", teams.team_list, name="teams"),
    path("add/", teams.team_add, name="team_add"),
    path("<int:pk>/", teams.team, name="team"),
    path("<int:pk>/edit/", teams.team_edit, name="team_edit"),
    path("<int:pk>/delete/", teams.team_delete, name="team_delete"),
    path("<int:pk>/grants/add/", users.team_grant, name="team_grant"),
]

account_urls = [
    path("", account.account, name="account"),
    path("password/", account.PasswordView.as_view(), name="password"),
    path("tokens/", account.token_list, name="tokens"),
    path("tokens/<int:pk>/revoke/", account.token_revoke, name="token_revoke"),
    path("sessions/", account.session_list, name="sessions"),
    path("sessions/<int:pk>/end/", account.session_end, name="session_end"),
    path("sessions/end/", account.sessions_end, name="sessions_end"),
]

urlpatterns = [
    path("people/", users.user_list, name="people"),
    path("people/invite/", users.user_invite, name="user_invite"),
    path("people/services/add/", users.service_add, name="service_add"),
    path("people/grants/<int:pk>/take/", users.grant_take, name="grant_take"),
    path("people/<int:pk>/", include(user_urls)),
    path("people/teams/", include(team_urls)),
    path("account/", include(account_urls)),
    path("language/", account.choose_language, name="set_language"),
    path("join/<str:secret>/", joining.join, name="join"),
]
