"""The table of proofs: real services on real servers, all that may happen to them, and what deployer says of it."""
