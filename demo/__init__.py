"""What `make demo` shows: three SSH servers on loopback, a small shop, and the YAML that puts it there."""
