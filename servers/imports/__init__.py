"""Servers taken from files of other tools.

``openssh`` and ``ansible`` read a text into a ``listing``; ``comparing`` makes ``rows`` of it by what is here, and
``taking`` carries out what was ticked. The formats are read by code of our own, for the text may be hostile: no command
in it is run, no name is looked up, no file that it names is opened, and its ranges, nesting and length are bounded.
"""
