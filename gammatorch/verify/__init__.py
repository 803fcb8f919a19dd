"""VERIFY: what transformers' own modules do with the norms, found by running them tiny; knows transformers."""
