"""The safetensors format: headers as bytes, parsed whole, in one sweep, or only searched."""
