"""This machine: the processes that deployer starts here, its queue server, its key files."""
