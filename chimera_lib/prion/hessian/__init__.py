"""The curvature of a language model's loss: Hessian products, the spectrum, its sharp and its null directions."""
