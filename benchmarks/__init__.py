"""Benchmarks, each a script; and the Hub and the device on this machine that tests use too."""
