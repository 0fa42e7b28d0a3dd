"""Eigen-Prion: does training on a Hessian-null catalyst collapse a language model, compared with fair controls?"""
