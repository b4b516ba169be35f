"""Predictions in the formats of other tools, and corrected labels back from them."""
