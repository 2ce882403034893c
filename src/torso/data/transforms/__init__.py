"""Changes of a training sample, one file each; all chance comes from the generator that is handed in."""
