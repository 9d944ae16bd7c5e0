"""The TCP transport: TLS 1.3 between two nodes that pin each other's certificate fingerprint.

`client` connects, `server` accepts, `tls` is the stream that both return, `lobby` logs refused connections.
"""
