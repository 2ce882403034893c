"""Terms of a criterion's loss: each a loss, its weight, and what its sum is divided by."""
