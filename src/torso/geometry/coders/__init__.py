"""Between boxes and what a head predicts: encode beside decode, one file a code."""
