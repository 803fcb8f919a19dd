"""STREAM: from stored bytes to gains on the device."""
