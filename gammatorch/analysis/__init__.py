"""ANALYSE: from gains to numbers, on the gains' own device. No file, no printing."""
