"""The plan of a run: listing a source, updating the plan, and cutting it into units."""
