"""Commands on servers: may one be run, what exactly, and how a worker carries it out."""
