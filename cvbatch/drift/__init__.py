"""Whether an archive differs from a reference, such as the data of the model."""
