"""Webhooks of every temper: hook.py SEEN SECRET [CERT KEY]

Prints its port, then writes each request it gets as a line of JSON to SEEN. The path says how it answers: /ok, /500,
/404, /redirect, /megabytes, /hang. With a certificate it speaks TLS.
"""

import hashlib
import hmac
import http.server
import json
import ssl
import sys
import threading

seen_file, secret = sys.argv[1], sys.argv[2]
lock = threading.Lock()


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        at = self.headers.get("x-countersign-timestamp", "")
        signed = hmac.new(secret.encode(), b"v1:%s:%s" % (at.encode(), body), hashlib.sha256).hexdigest()
        temper = self.path.split("/")[1]
        seen = {
            "temper": temper,
            "signed": self.headers.get("x-countersign-signature") == f"v1={signed}",
            "body": json.loads(body),
        }
        with lock, open(seen_file, "a") as out:
            out.write(json.dumps(seen) + "\n")
        if temper == "hang":
            threading.Event().wait()
        self.send_response({"redirect": 302, "500": 500, "404": 404}.get(temper, 200))
        if temper == "redirect":
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/followed/latest/meta-data")
        self.end_headers()
        try:
            while temper == "megabytes":
                self.wfile.write(b"x" * 65536)
            self.wfile.write(b"ok")
        except OSError:
            pass

    def do_GET(self):
        self.path, self.headers["content-length"] = "/followed", "0"
        with lock, open(seen_file, "a") as out:
            out.write(json.dumps({"temper": "followed"}) + "\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Hook)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
