"""Binance USD-M futures: REST, streams, and the ports over them."""
