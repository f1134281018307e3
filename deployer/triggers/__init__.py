"""What launches by itself: webhooks and schedules, and the hold of a project's after a rollback."""
