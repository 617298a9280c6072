"""Stores: tables of results behind one contract, and the journal of raw frames. One folder per system."""

from storage.connect import open_journal, open_sink
from storage.contract import Journal, Sink
from storage.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable

__all__ = ["Journal", "Sink", "StoreError", "StoreFull", "StoreRefused", "StoreUnavailable", "open_journal", "open_sink"]
