"""From a source to a plan, and from a plan to units."""
