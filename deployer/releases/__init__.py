"""Releases: their archives, their store, what servers have of them."""
