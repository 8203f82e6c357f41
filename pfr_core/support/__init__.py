"""What every layer needs and none of them owns: options, arguments, devices, files."""
