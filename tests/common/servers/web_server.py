"""A web server for tests: answers with the given statuses in turn (the last one for ever), and prints
each request as a line of JSON. Signatures are checked here, by Python's own HMAC.

usage: web_server.py PORT STATUS[,STATUS...] [SECRET]
"""

import hashlib
import hmac
import http.server
import json
import sys

port = int(sys.argv[1])
statuses = [int(status) for status in sys.argv[2].split(",")]
secret = sys.argv[3].encode() if len(sys.argv) > 3 else None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen = {"path": self.path, "headers": {}, "body": body.decode()}
        for name, value in self.headers.items():
            # Headers are bytes; Python shows each as a character.
            seen["headers"][name.lower()] = value.encode("latin-1").decode()
        if secret:
            signed = seen["headers"]["x-hearken-timestamp"].encode() + b"." + body
            digest = hmac.new(secret, signed, hashlib.sha256).hexdigest()
            expected = "sha256=" + digest
            seen["signature_holds"] = seen["headers"]["x-hearken-signature"] == expected
        print(json.dumps(seen), flush=True)
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.end_headers()
        self.wfile.write(b"so says the server\n")

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
print("ready", flush=True)
server.serve_forever()
