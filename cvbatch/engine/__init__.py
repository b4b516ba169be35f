"""The engine on Ray: the only package that imports Ray, besides `submit.client`."""
