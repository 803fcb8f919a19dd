"""Checkpoints made on the spot, and the reference arithmetic that results are held against."""
