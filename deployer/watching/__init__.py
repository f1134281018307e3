"""Whether this installation is well: findings for people, figures for monitors. It changes nothing."""
