"""From blocks to committed files: the store, the commit log, data files, manifest and proof."""
