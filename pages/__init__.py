"""The ground that every floor's pages stand on: how forms look, how times are said. No models."""
