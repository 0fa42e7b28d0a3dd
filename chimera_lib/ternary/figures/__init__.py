"""Figures of part III's notebooks, one module to a notebook."""
