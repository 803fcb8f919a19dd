"""RESULTS: the documents that the program writes and reads, as typed structs. Needs no torch."""
