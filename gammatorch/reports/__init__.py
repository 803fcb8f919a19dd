"""RENDER: numbers to text and files. Computes nothing."""
