"""A Telegram Bot API that knows one bot and never has news.

With `channels.telegram.apiRoot` set to it, a channel really connects without a network.
Usage: fake_telegram.py PORT. Prints one line for each call: time and method.
"""

import http.server
import json
import sys
import time

BOT = {"id": 123456789, "is_bot": True, "first_name": "fake", "username": "fake_bot", "can_join_groups": True}
WEBHOOK = {"url": "", "has_custom_certificate": False, "pending_update_count": 0}
# A poll for news waits, as Telegram's does, so that the gateway does not poll in a busy loop.
POLL_SECONDS = 5


def answer(method):
    if method == "getme":
        return BOT
    if method == "getupdates":
        time.sleep(POLL_SECONDS)
        return []
    if method == "getwebhookinfo":
        return WEBHOOK
    return True


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        method = self.path.split("?")[0].rsplit("/", 1)[-1]
        result = answer(method.lower())
        print(time.time(), method, flush=True)
        body = json.dumps({"ok": True, "result": result}).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # The gateway was killed while it waited: that is what the tests do.

    do_GET = respond
    do_POST = respond

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api).serve_forever()
