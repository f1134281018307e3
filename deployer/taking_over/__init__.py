"""What other tools have, read from their dumps and backups and written as YAML for `deployer apply`."""
