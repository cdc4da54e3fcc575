"""tidegate: an automated trading daemon for Binance USD-M futures."""
