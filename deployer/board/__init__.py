"""What runs where: what was seen on the servers, how it differs, how long deployments took."""
