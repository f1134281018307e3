"""Gates before a rollout: may it begin now, must it wait, and who lets it through."""
