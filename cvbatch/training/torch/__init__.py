"""What a worker of a training does with torch."""
