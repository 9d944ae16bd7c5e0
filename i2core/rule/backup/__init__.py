"""The backup side: accepts sessions, compares, applies records in order, and reports what is durable.

A session begins: `service`, `greeting`, `admission`, `opening`, `owners` and `ownership`, `codecs`, `secret`.
A session runs: `receive` dispatches the frames of `inbox` to `batches` and `applying`, `questions` and `orphans`;
beside it `durability` flushes; `acks` reports; `mass_delete` holds; `writer` alone changes the replica.
What is known of a replica: `replica` and `replicas`; on disk `position` and `progress`.
"""
