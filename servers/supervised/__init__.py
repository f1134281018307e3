"""Runs that outlive the link that started them."""
