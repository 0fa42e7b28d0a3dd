"""The figures of the part on Eigen-Prion."""
