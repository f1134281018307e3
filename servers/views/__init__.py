"""Pages that show the machines and how they are reached, and edit them."""
