#!/usr/bin/env python3
"""A mail server that says what it was told, one JSON line each: first its port, then each mail.

    smtp.py starttls|tls|plain CERTIFICATE KEY

With starttls and tls it wants the user `weir` with the password `s3cret`, and takes neither before TLS. It refuses mail to
nobody@example.com for good, and mail to later@example.com once.
"""
import asyncio
import json
import ssl
import sys
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult

MODE, CERTIFICATE, KEY = sys.argv[1:]
put_off = set()


def tell(message):
    print(json.dumps(message), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "nobody@example.com":
            return "550 5.1.1 no such user"
        if address == "later@example.com" and address not in put_off:
            put_off.add(address)
            return "451 4.7.1 greylisted, try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        tell({
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "tls": server.transport.get_extra_info("cipher") is not None,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": sorted(name for name in mail.keys()),
            "subject": mail["Subject"],
            "body": mail.get_content(),
        })
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"weir", b"s3cret"), handled=False, auth_data=data)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    options = {"authenticator": authenticate, "auth_required": MODE != "plain"}
    if MODE == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    elif MODE == "tls":
        # The connection is TLS from its first byte, which SMTP itself does not know.
        options |= {"auth_require_tls": False}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), hostname="localhost", loop=loop, **options),
        "127.0.0.1",
        0,
        ssl=context if MODE == "tls" else None,
    )
    tell({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


asyncio.run(main())
