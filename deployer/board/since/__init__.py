"""What has changed on a server, or of a project, since it was last good: all that is known of it, by time."""
