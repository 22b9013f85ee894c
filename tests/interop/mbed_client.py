"""A DTLS client on mbed TLS, by python-mbedtls, on a socket of its own."""

import asyncio
import socket

from mbedtls import tls
from mbedtls.pk import ECC
from mbedtls.x509 import CRT

from server.transport import records
from tests.pki import Holder

# mbed TLS repeats its flight from within the next call, so it is called this often.
TICK = 0.05
# RFC 7252 4.2, for an exchange.
ACK_TIMEOUT = 2.0
_ROOM = 1 << 16


class MbedClient:
    """One device; with `certificate` and the server's `anchor`, or with `psk`: identity and key."""

    def __init__(
        self,
        address: tuple[str, int],
        suite: str,
        *,
        certificate: Holder | None = None,
        anchor: str = "",
        psk: tuple[str, bytes] | None = None,
        mtu: int = 1200,
    ) -> None:
        proof = {}
        if certificate is not None:
            chain = (CRT.from_DER(certificate.der),), ECC.from_buffer(certificate.key_pem)
            proof = {"certificate_chain": chain, "trust_store": tls.TrustStore([CRT.from_PEM(anchor)])}
        made = tls.DTLSConfiguration(
            validate_certificates=certificate is not None,
            ciphers=(suite,),
            lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
            pre_shared_key=psk,
            **proof,
        )
        self.mtu = mtu
        self.tls = tls.ClientContext(made).wrap_buffers(None)
        self.tls.setmtu(mtu)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect(address)

    async def handshake(self) -> None:
        """Shake hands, repeating as mbed TLS says."""
        while self.tls._handshake_state is not tls.HandshakeStep.HANDSHAKE_OVER:
            try:
                self.tls.do_handshake()
            except tls.WantWriteError:
                self._send()
            except tls.WantReadError:
                self._send()
                await self._receive(TICK)
        self._send()

    async def ask(self, request: bytes, answer: bytes) -> None:
        """Send a confirmable message, again and again, until a message came that begins like `answer`."""
        while True:
            self.tls.write(request)
            self._send()
            try:
                async with asyncio.timeout(ACK_TIMEOUT):
                    while not (await self._message()).startswith(answer):
                        pass
            except TimeoutError:
                continue
            return

    async def _message(self) -> bytes:
        room = bytearray(_ROOM)
        while True:
            try:
                return bytes(room[: self.tls.readinto(room, len(room))])
            except tls.WantReadError:
                self._send()
                await self._receive(None)

    def _send(self) -> None:
        waiting = self.tls.peek_outgoing(len(self.tls._output_buffer))
        self.tls.consume_outgoing(len(waiting))
        for datagram in records.datagrams(waiting, self.mtu):
            self.sock.send(datagram)

    async def _receive(self, seconds: float | None) -> None:
        """Take one datagram, if one comes in time: two in the buffer would be read as one."""
        try:
            async with asyncio.timeout(seconds):
                self.tls.receive_from_network(await asyncio.get_running_loop().sock_recv(self.sock, _ROOM))
        except TimeoutError:
            pass
