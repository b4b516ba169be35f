"""Networks and how their answers become columns."""
