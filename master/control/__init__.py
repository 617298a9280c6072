"""The WebSocket between a gateway and its master (`schemas.rpc`)."""
