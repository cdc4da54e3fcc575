"""A local exchange that speaks the Binance futures protocol over the simulator."""
