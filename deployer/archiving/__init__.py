"""Projects that are over: archived, restored, or deleted with everything that was kept of them."""
