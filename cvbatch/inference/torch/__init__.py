"""Networks in torch; only these modules import torch."""
