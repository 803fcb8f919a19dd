"""Repositories of the Hub: requests that are tried again, ranges that are merged, answers that are kept on disk."""
