"""The JSON API: endpoints, and the shapes of its answers, which the command line prints too."""
