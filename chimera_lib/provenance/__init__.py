"""Image provenance: which autoregressive generator made an image, or none of them?"""
