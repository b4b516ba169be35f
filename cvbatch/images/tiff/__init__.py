"""Read TIFFs and raw photos based on TIFF: choose the picture, find its strips or tiles, interpret its samples."""
