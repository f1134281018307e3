"""Addresses of people's pages; deployer.urls has the page of a user, which shows what they deployed."""

from django.urls import include, path, register_converter

from people.provider import ProviderConverter
from people.views import account, factors, joining, signing_in, teams, users

register_converter(ProviderConverter, "provider")

# The names are django-allauth's own, which leads from one to the other by them. It has more: they are not here.
login_urls = [
    path("", signing_in.LoginView.as_view(), name="login"),
    path("", signing_in.LoginView.as_view(), name="account_login"),
    path("second-factor/", signing_in.FactorView.as_view(), name="mfa_authenticate"),
    path("<provider:provider_id>/", signing_in.provider_login, name="openid_connect_login"),
    path("<provider:provider_id>/callback/", signing_in.provider_callback, name="openid_connect_callback"),
]

factor_urls = [
    path("", factors.second_factor, name="mfa_index"),
    path("app/", factors.AppView.as_view(), name="mfa_activate_totp"),
    path("app/remove/", factors.AppRemoveView.as_view(), name="mfa_deactivate_totp"),
    path("passkeys/add/", factors.PasskeyView.as_view(), name="mfa_add_webauthn"),
    path("passkeys/<int:pk>/remove/", factors.PasskeyRemoveView.as_view(), name="mfa_remove_webauthn"),
    path("codes/", factors.CodesView.as_view(), name="mfa_view_recovery_codes"),
    path("codes/new/", factors.NewCodesView.as_view(), name="mfa_generate_recovery_codes"),
]

user_urls = [
    path("link/", users.user_link, name="user_link"),
    path("grants/add/", users.user_grant, name="user_grant"),
    path("deactivate/", users.user_deactivate, name="user_deactivate"),
    path("reactivate/", users.user_reactivate, name="user_reactivate"),
    path("sessions/end/", users.user_sessions_end, name="user_sessions_end"),
    path("factors/remove/", users.user_factors_remove, name="user_factors_remove"),
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
    path("confirm/", signing_in.ConfirmView.as_view(), name="account_reauthenticate"),
    path("confirm/code/", signing_in.ConfirmByCodeView.as_view(), name="mfa_reauthenticate"),
    path("confirm/passkey/", signing_in.ConfirmByPasskeyView.as_view(), name="mfa_reauthenticate_webauthn"),
    path("second-factor/", include(factor_urls)),
]

urlpatterns = [
    path("people/", users.user_list, name="people"),
    path("people/invite/", users.user_invite, name="user_invite"),
    path("people/services/add/", users.service_add, name="service_add"),
    path("people/grants/<int:pk>/take/", users.grant_take, name="grant_take"),
    path("people/<int:pk>/", include(user_urls)),
    path("people/teams/", include(team_urls)),
    path("login/", include(login_urls)),
    path("account/", include(account_urls)),
    path("language/", account.choose_language, name="set_language"),
    path("join/<str:secret>/", joining.join, name="join"),
]
