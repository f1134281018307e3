"""The log of a deployment: one way in, one way out."""
