"""THE SHELL: asyncio, configuration, logging and the command line live here."""
