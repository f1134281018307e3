"""The pages: launch a deployment, watch it, stop it, and see what ran before."""
