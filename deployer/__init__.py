"""deployer: deploys software to servers that are reached over SSH."""

#: The one place where it stands: packaging, pages, commands and the API read it here.
__version__ = "0.1.0"
