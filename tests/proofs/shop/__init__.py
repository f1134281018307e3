"""The application that is restarted, in the languages of its services: each answers with its pid and its version."""
