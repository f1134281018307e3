"""The web server: reads whole requests before it spends a thread on them."""
