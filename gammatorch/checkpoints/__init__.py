"""LOCATE and OPEN: which bytes hold which tensors, and where the bytes are. No torch, no names of norms."""
