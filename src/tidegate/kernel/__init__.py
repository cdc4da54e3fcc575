"""THE MACHINE: events in, commands out."""
