"""`firstlight … --url URL --api-key-file FILE`: the same commands through the API of a server somewhere else.

The words are those of the other door (`--data-dir`, `--database-url`); here they are requests, and the server writes
the audit row, under the name of the key.
"""
