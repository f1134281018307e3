"""The logs of applications followed live: asked for by pages, followed by a worker, by one login for all viewers."""
