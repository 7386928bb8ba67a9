"""Pretraining: masking, objectives and the loop."""
