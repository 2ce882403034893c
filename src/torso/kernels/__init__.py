"""Suppression and RoI pooling in torch, CPU and Triton forms, each behind one name."""
