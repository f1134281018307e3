"""What keeps an installation small and safe for years: retention, packed logs, backups."""
