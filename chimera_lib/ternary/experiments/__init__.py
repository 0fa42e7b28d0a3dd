"""The comparisons of part III: what is trained on what, how peers are tuned, and the log that all of it writes."""
