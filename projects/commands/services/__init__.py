"""The kinds of services, each in a module of its own: how it is asked for, read, restarted and explained."""
