"""SELECT: which tensors are which norms. Works on names and shapes; no bytes, no torch."""
