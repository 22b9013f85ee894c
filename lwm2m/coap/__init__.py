"""CoAP without I/O: codec, message layer and block-wise transfer of one association (RFC 7252, RFC 7959).

From the wire up: `message` turns datagrams into messages, `options` reads what a request asks for,
`message_layer` numbers and remembers, `blockwise` cuts and joins bodies, `incoming` and `outgoing` are the
two directions, `exchange` is the one door: it hands whole messages to the endpoint.

This is the busiest Python of the product, once per datagram. It keeps to bytes, ints, tuples and slots,
without an object per option or an enum per code: measured, a library that has them takes seven times as long.
"""
