"""Checkpoints of one training run: what tells them apart, and which of them honest training does not produce."""
