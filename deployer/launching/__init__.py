"""May this be launched, and what exactly: the rules that pages, API and command line share."""
