"""Truth that predictions are compared with: annotations of COCO, YOLO, Pascal VOC, masks, folders and tables."""
