"""What every figure, column, verdict and name that is printed or written means: data, and a way to look it up."""
