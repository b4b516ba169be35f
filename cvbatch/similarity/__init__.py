"""Images that are equal, alike or belong together, by their hashes and embeddings."""
