"""Pages that show the machines and how they are reached, and change what is known of them."""
