"""Links to servers over SSH: the only folder that imports the SSH library."""
