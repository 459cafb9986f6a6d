#!/usr/bin/env python3
"""Peers for tests, on loopback: an HTTP server that does what bad servers do, and an SMTP server.

    peers.py FOLDER     writes the ports to FOLDER/http and FOLDER/smtp, each request line to FOLDER/requests, each mail to FOLDER/mail.N

It speaks raw bytes on purpose: a library would not send what is wrong.
"""
import base64
import gzip
import os
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from email.utils import formatdate

folder = sys.argv[1]
parent = os.getppid()
lock = threading.Lock()
counts = {}
at_once = {"now": 0, "most": 0}


def note(name, line):
    with lock, open(os.path.join(folder, name), "a", encoding="utf-8") as f:
        f.write(line + "\n")


def count(key):
    with lock:
        counts[key] = counts.get(key, 0) + 1
        return counts[key]


def answer(status, body=b"", headers=(), length=None):
    lines = [f"HTTP/1.1 {status} X"] + [f"{k}: {v}" for k, v in headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Http(socketserver.StreamRequestHandler):
    def handle(self):
        self.seen = 0  # requests on this connection
        try:
            while self.one():
                self.seen += 1
        except OSError:
            pass

    def one(self):
        line = self.rfile.readline(65536).decode("latin1").strip()
        if not line:
            return False
        method, target, _ = line.split(" ", 2)
        headers = []
        while True:
            h = self.rfile.readline(65536).decode("latin1").rstrip("\r\n")
            if not h:
                break
            headers.append(h)
        fields = {h.split(":", 1)[0].lower(): h.split(":", 1)[1].strip() for h in headers}
        body = self.rfile.read(int(fields.get("content-length", "0")))
        note("requests", f"{method} {target}")
        url = urllib.parse.urlsplit(target)
        parts = url.path.strip("/").split("/")
        query = dict(urllib.parse.parse_qsl(url.query))
        with lock:
            at_once["now"] += 1
            at_once["most"] = max(at_once["most"], at_once["now"])
        try:
            return self.reply(method, parts[0], parts[1:], query, headers, fields, body, target)
        finally:
            with lock:
                at_once["now"] -= 1

    def send(self, data):
        self.wfile.write(data)
        self.wfile.flush()

    def reply(self, method, what, rest, query, headers, fields, body, target):
        import json
        if what == "echo":
            out = json.dumps({"method": method, "target": target, "headers": headers, "body": body.decode("latin1")}).encode()
            self.send(answer(200, b"" if method == "HEAD" else out, [("Content-Type", "application/json"), ("X-Secret", fields.get("x-secret", "-"))], len(out)))
        elif what == "status":
            self.send(answer(int(rest[0]), b"said " + rest[0].encode()))
        elif what == "body":  # what the query says, as this type
            self.send(answer(200, base64.b64decode(query["b64"]), [("Content-Type", query.get("type", "text/plain"))]))
        elif what == "flaky":  # fails so many times for this key
            n = count(target)
            self.send(answer(503 if n <= int(rest[0]) else 200, str(n).encode()))
        elif what == "later":  # 429 once, with Retry-After in the form asked for
            wait = int(rest[1])
            value = str(wait) if rest[0] == "seconds" else formatdate(time.time() + wait, usegmt=True)
            self.send(answer(429, b"", [("Retry-After", value)]) if count(target) == 1 else answer(200))
        elif what == "slow":  # answers after so long
            time.sleep(float(rest[0]))
            self.send(answer(200, b"late"))
        elif what == "drip":  # a byte now and then
            self.send(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                self.send(b"x")
                time.sleep(0.2)
        elif what == "drip-headers":
            self.send(b"HTTP/1.1 200 X\r\n")
            for i in range(1000):
                self.send(f"X-{i}: 1\r\n".encode())
                time.sleep(0.2)
        elif what == "headers":  # far too many
            self.send(b"HTTP/1.1 200 X\r\n" + b"".join(f"X-{i}: {'x' * 1000}\r\n".encode() for i in range(200)) + b"Content-Length: 0\r\n\r\n")
        elif what == "cut":
            self.send(answer(200, b"half", length=100))
            return False
        elif what == "longer":  # more than it said
            self.send(answer(200, b"0123456789", length=4))
            return False
        elif what == "huge":
            self.send(answer(200, b"x" * int(rest[0]), [("Content-Type", "text/plain")]))
        elif what == "endless":
            self.send(b"HTTP/1.1 200 X\r\nContent-Type: text/plain\r\n\r\n")
            while True:
                self.send(b"y" * 65536)
        elif what == "bomb":  # small on the way, large when unpacked
            self.send(answer(200, gzip.compress(b"\0" * 200_000_000, 9)[:], [("Content-Encoding", "gzip"), ("Content-Type", "text/plain")]))
        elif what == "loop":
            self.send(answer(302, b"", [("Location", f"/loop/{int(rest[0]) + 1}")]))
        elif what == "goto":
            self.send(answer(int(rest[0]), b"", [("Location", query["to"])]))
        elif what == "not-http":
            self.send(b"220 ready for mail\r\n")
            return False
        elif what == "close":
            return False
        elif what == "once":  # a connection serves one request; it takes a second one and closes
            if self.seen > 0:
                return False
            self.send(answer(200, b"once"))
        elif what == "wrong":  # a response that is none, in several ways
            self.send({
                "length": b"HTTP/1.1 200 X\r\nContent-Length: many\r\n\r\n",
                "lengths": b"HTTP/1.1 200 X\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
                "negative": b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n",
                "chunk": b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
                "gzip": answer(200, b"this is no gzip", [("Content-Encoding", "gzip")]),
                "status": b"HTTP/1.1 abc X\r\nContent-Length: 0\r\n\r\n",
                "version": b"HTTP/9.9 200 X\r\nContent-Length: 0\r\n\r\n",
                "nul": b"HTTP/1.1 200 X\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n",
                "latin": b"HTTP/1.1 200 X\r\nX-Request-Id: \xff\xfe\r\nContent-Length: 2\r\n\r\nok",
                "fold": b"HTTP/1.1 200 X\r\nX-Request-Id: a\r\n  b\r\nContent-Length: 2\r\n\r\nok",
                "line": b"HTTP/1.1 200 X\r\nno colon here\r\n\1: x\r\nContent-Length: 2\r\n\r\nok",
                "early": b"HTTP/1.1 103 X\r\nLink: </a>\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok",
                "empty": b"\r\n\r\n",
            }[rest[0]])
            return False
        elif what == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return False
        elif what == "most":
            self.send(answer(200, str(at_once["most"]).encode()))
        else:
            self.send(answer(404))
        return fields.get("connection", "").lower() != "close"


class Smtp(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write((text + "\r\n").encode())
        self.wfile.flush()

    def handle(self):
        try:
            self.talk()
        except OSError:
            pass

    def talk(self):
        self.say("220 test")
        mail = {"from": "", "to": [], "login": ""}
        while True:
            line = self.rfile.readline(65536).decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                return
            verb = line.upper()
            if verb.startswith("EHLO"):
                self.say("250-test")
                self.say("250-8BITMIME")
                self.say("250-SMTPUTF8")
                self.say("250 AUTH PLAIN")
            elif verb.startswith("AUTH PLAIN"):
                data = line[10:].strip()
                if not data:
                    self.say("334 ")
                    data = self.rfile.readline().decode().strip()
                mail["login"] = base64.b64decode(data).decode().replace("\0", "|")
                self.say("235 in")
            elif verb.startswith("MAIL FROM"):
                mail["from"] = line
                self.say("250 ok")
            elif verb.startswith("RCPT TO"):
                if "refused@" in line:
                    self.say("550 no such mailbox")
                elif "busy@" in line and count(line) <= 1:
                    self.say("451 come again later")
                else:
                    mail["to"].append(line)
                    self.say("250 ok")
            elif verb == "DATA":
                self.say("354 go on")
                data = []
                while True:
                    one = self.rfile.readline(1 << 20)
                    if one in (b".\r\n", b""):
                        break
                    data.append(one[1:] if one.startswith(b"..") else one)
                with open(os.path.join(folder, f"mail.{count('mail')}"), "wb") as f:
                    f.write(f"{mail['from']}\n{';'.join(mail['to'])}\n{mail['login']}\n".encode() + b"".join(data))
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024


for name, handler in (("http", Http), ("smtp", Smtp)):
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(os.path.join(folder, name + ".new"), "w", encoding="ascii") as f:
        f.write(str(server.server_address[1]))
    os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))
# Whoever started it may die without a word.
while os.getppid() == parent:
    time.sleep(1)
