"""What a kind of model means to the engine: its data, its evaluation, its report."""
