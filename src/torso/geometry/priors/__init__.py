"""Where predictions start from: one file a kind of prior."""
