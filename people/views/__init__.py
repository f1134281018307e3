"""Pages of people: users and teams for who administers them, and everybody's own account."""
