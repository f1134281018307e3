"""The fault suite: real SSH servers behind a proxy, real workers, and everything that goes wrong with them."""
