"""Three SSH servers and a shop on this machine, for the playground and the demo."""
