"""Ray: start-up, the size of the pools, and the stages that run in them."""
