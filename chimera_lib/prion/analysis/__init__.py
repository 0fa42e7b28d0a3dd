"""Result folders, read and judged: the original project's and ours; signed means, intervals, tests, verdicts."""
