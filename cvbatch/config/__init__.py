"""What a user asks for: the job file, checked and with its defaults."""
