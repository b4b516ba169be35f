"""Trainings: images and their truth become a model for `cvbatch run`; only `training.torch` imports torch."""
