"""Trainings shown by TensorBoard and MLflow, each by its own writer, from what the log of the training holds."""
