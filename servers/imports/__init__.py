"""Servers taken from files of other tools. Only the text is read: no file that it names, no name server, no command.

The formats are read by code of our own: what reads them elsewhere runs commands for ``Match exec``, asks name servers,
opens the files that are named, or has no bound for ranges and anchors.
"""
