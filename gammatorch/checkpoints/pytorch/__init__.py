"""PyTorch's own formats: archives, old files and torch.distributed's folders, their pickles taken apart as data."""
