"""Ray: the only package that imports it, besides `submit.client`."""
