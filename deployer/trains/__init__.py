"""Trains: what several projects launched as one plan do next, who decides about it, and the moves themselves."""
