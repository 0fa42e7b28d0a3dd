"""Ternary layers for inference: packed weights, products taken from them, and files that hold them.

``codes`` packs trits (2 bits a weight, or 5 trits a byte), ``matvec`` multiplies with packed rows, ``layers`` has the
modules and `pack` for a whole model, ``export`` the files.
"""
