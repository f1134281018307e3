"""What a repository's files say about how it is built, started and restarted: a proposal, and nothing is run for it."""
