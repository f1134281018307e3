"""Users, their API tokens, and who may open a page."""
