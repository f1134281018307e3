"""What happens is told to people and other systems: an outbox that is written with it, and a courier that sends."""
