#!/usr/bin/env bash
# Healthy when the shop on this server answers.
exec python3 -c "import urllib.request as web; web.urlopen('http://127.0.0.1:$SHOP_PORT/up', timeout=3)"
