"""Carrying out a deployment: the only room that changes a server."""
