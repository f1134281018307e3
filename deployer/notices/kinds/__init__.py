"""The kinds of channel: what each needs, what it is sent, and what its answers mean."""
