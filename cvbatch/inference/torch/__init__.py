"""Networks of torch; only these modules import it."""
