"""Servers taken from files of other tools.

``openssh`` and ``ansible`` read a text into a ``listing``; ``plan`` compares it with what is here and carries out what
was ticked. The formats are read by code of our own, for the text may be hostile: no command in it is run, no name is
looked up, no file that it names is opened, and its ranges, nesting and length are bounded.
"""
