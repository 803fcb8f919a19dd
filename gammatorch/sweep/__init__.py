"""SWEEP: many checkpoints and revisions, each into one immutable file: plan → store → engines → run."""
