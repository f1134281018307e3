"""Projects, servers and groups declared in YAML files: read, written, exported."""
