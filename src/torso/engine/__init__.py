"""The training loop: knows models, batches, terms and scores, but no box and no annotation file."""
