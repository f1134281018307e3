"""Asking servers: what is there, who the service is, is it healthy. Nothing is changed on them."""
