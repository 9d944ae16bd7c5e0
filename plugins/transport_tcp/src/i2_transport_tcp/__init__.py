"""The TCP transport: TLS 1.3 between two nodes that know each other's certificate fingerprint.

`client` connects, `server` accepts, `tls` is the stream both give, `lobby` holds those who have not shown who they are.
"""
