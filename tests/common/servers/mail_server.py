"""A mail server for tests (aiosmtpd): prints each mail as a line of JSON.

usage: mail_server.py PORT none
       mail_server.py PORT starttls|wrapped CERTIFICATE KEY USER PASSWORD
"""

import email
import email.policy
import json
import logging
import socket
import ssl
import sys
import threading
import warnings

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

# It warns of what the tests are about.
warnings.simplefilter("ignore")
logging.disable()

port, way = int(sys.argv[1]), sys.argv[2]


class Handler:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        seen = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": str(mail["Subject"]),
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "text": mail.get_content(),
            "login": bool(session.authenticated),
            "tls": session.ssl is not None or way == "wrapped",
        }
        print(json.dumps(seen), flush=True)
        return "250 OK"


options = {}
if way != "none":
    certificate, key, user, password = sys.argv[3:7]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def authenticate(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=good, handled=False)

    options = {"authenticator": authenticate, "auth_required": True}
    if way == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    else:
        options |= {"ssl_context": context, "auth_require_tls": False}


class OwnDoor(Controller):
    def _trigger_server(self):
        """Knocks at its own door, to see that it is open; certificates are for others to check."""
        socket.create_connection((self.hostname, self.port), 5).close()


controller = OwnDoor(Handler(), hostname="127.0.0.1", port=port, ready_timeout=60, **options)
controller.start()
print("ready", flush=True)
threading.Event().wait()
