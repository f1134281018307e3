"""All kinds of channel, by their names."""

from deployer.models import ChannelKind
from deployer.notices.kinds.chats import DingTalk, Feishu, Slack, Teams, Telegram, Webhook, WeCom
from deployer.notices.kinds.kind import Kind
from deployer.notices.kinds.mail import Mail
from deployer.notices.kinds.marks import GitHub, GitLab, Sentry
from deployer.notices.kinds.other import Other

_ALL: tuple[Kind, ...] = (
    *(Mail(), Slack(), Feishu(), DingTalk(), WeCom(), Teams(), Telegram()),
    *(Webhook(), GitHub(), GitLab(), Sentry(), Other()),
)
KINDS: dict[str, Kind] = {kind.kind: kind for kind in _ALL}
#: Whoever may not do everything gives no address of these.
FOR_ADMINS = frozenset({ChannelKind.OTHER})
