"""Configurations of web servers that stand in front of the site and speak https."""

from dataclasses import dataclass

#: Seconds for which an answer may be silent: a log waits for 20 s for news, and a large download is made first.
SILENT = 120


@dataclass(frozen=True)
class Front:
    """What is in front: the name and the port of the site, its certificate and key, and where the site listens.

    Without a certificate Caddy gets one by itself; nginx is given the paths of certbot's.
    """

    name: str
    port: int
    bind: str
    certificate: str = ""
    key: str = ""


def nginx(front: Front) -> str:
    """A file for /etc/nginx/sites-available, or conf.d."""
    certificate = front.certificate or f"/etc/letsencrypt/live/{front.name}/fullchain.pem"
    key = front.key or f"/etc/letsencrypt/live/{front.name}/privkey.pem"
    plain = f"""\
server {{
    listen 80;
    server_name {front.name};
    return 301 https://$host$request_uri;
}}

"""
    return f"""\
upstream deployer {{
    server {front.bind};
    keepalive 16;
}}

{plain if front.port == 443 else ""}server {{
    listen {front.port} ssl http2;
    server_name {front.name};
    ssl_certificate {_quoted(certificate)};
    ssl_certificate_key {_quoted(key)};
    ssl_protocols TLSv1.2 TLSv1.3;

    # The site decides how much a request may bring, before it is read: packages are large, and forms are not.
    client_max_body_size 0;
    proxy_request_buffering off;

    location / {{
        proxy_pass http://deployer;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto https;
        proxy_set_header X-Request-ID $request_id;
        # Logs are waited for, and exports are written while they are read.
        proxy_read_timeout {SILENT}s;
        proxy_max_temp_file_size 0;
    }}
}}
"""


def caddy(front: Front) -> str:
    """A Caddyfile."""
    own = f"    tls {_quoted(front.certificate)} {_quoted(front.key)}\n" if front.certificate else ""
    name = front.name if front.port == 443 else f"{front.name}:{front.port}"
    return f"""\
{name} {{
{own}    reverse_proxy {front.bind} {{
        header_up X-Request-ID {{http.request.uuid}}
        transport http {{
            response_header_timeout {SILENT}s
        }}
    }}
}}
"""


def _quoted(path: str) -> str:
    """A path as both read it: in quotes where it is not of plain signs."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return path if all(sign.isalnum() or sign in "/._-" for sign in path) else f'"{escaped}"'
