"""The core: a stream is a journal, a subscriber a position in it.  Knows neither HTTP nor how a page is fetched."""
