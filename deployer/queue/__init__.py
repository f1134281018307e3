"""The job queue: what is sent, what workers do with it. The only folder that imports the queue library."""
