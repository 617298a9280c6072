"""``iotcloud prove``: whether every event that a gateway has accepted is somewhere, and where (decision 011)."""
