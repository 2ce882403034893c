"""Anchor shapes fitted to data, and what priors can reach."""
