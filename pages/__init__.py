"""The ground that every floor's pages stand on: who may use them, how forms look, how times are said. No models."""
