"""What each numbered script does once its flags are read."""
