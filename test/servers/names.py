#!/usr/bin/env python3
"""A hostile name server and a web server, in a network of their own, for one command.

    unshare --user --map-root-user --net --mount names.py FOLDER COMMAND...

Inside, loopback is all there is; it also has the public address 93.184.216.34. Names end in .test:

    public         the public address
    private        127.0.0.1
    six            ::1
    mapped         ::ffff:127.0.0.1
    metadata       169.254.169.254
    both           127.0.0.1 and the public address
    alias          a CNAME for private.test
    hole           an address where nobody answers: connecting hangs
    flip           the public address the first time, then 127.0.0.1
    slow-N         the public address, after 3 seconds
    dead           no answer
    anything else  does not exist

FOLDER/questions has the names that were asked for, FOLDER/requests a line "HOST ADDRESS TARGET" for each request.
"""
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time

folder, command = sys.argv[1], sys.argv[2:]
PUBLIC, HOLE, LOCAL, META = "93.184.216.34", "93.184.216.35", "127.0.0.1", "169.254.169.254"
seen = {}
lock = threading.Lock()


def note(name, line):
    with lock, open(os.path.join(folder, name), "a", encoding="utf-8") as f:
        f.write(line + "\n")


def four(*addresses):
    return [(1, socket.inet_aton(a)) for a in addresses]


def answers(name, kind):
    """Records of a name: (type, data); None: it does not exist."""
    if name == "flip":
        with lock:
            if kind == 1:
                seen[name] = seen.get(name, 0) + 1
        return four(PUBLIC if seen.get(name, 0) <= 1 else LOCAL)
    if name.startswith("slow-"):
        time.sleep(3)
        return four(PUBLIC)
    fixed = {"public": four(PUBLIC), "hole": four(HOLE), "private": four(LOCAL), "metadata": four(META), "both": four(LOCAL, PUBLIC),
             "six": [(28, socket.inet_pton(socket.AF_INET6, "::1"))], "mapped": [(28, socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1"))],
             "alias": [(5, b"\7private\4test\0")] + four(LOCAL)}
    return fixed.get(name)


def reply(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin1").lower())
        at += 1 + query[at]
    question, kind = query[12:at + 5], struct.unpack("!H", query[at + 1:at + 3])[0]
    note("questions", ".".join(labels))
    if labels[0] == "dead":
        return None
    records = answers(labels[0], kind) if labels[-1] == "test" and len(labels) == 2 else None
    given = [r for r in records or [] if r[0] in (kind, 5)]
    if not any(r[0] == kind for r in given):
        given = []
    head = struct.pack("!HHHHHH", struct.unpack("!H", query[:2])[0], 0x8180 | (3 if records is None else 0), 1, len(given), 0, 0)
    body, owner = b"", b"\xc0\x0c"
    for type_, data in given:
        body += owner + struct.pack("!HHIH", type_, 1, 0, len(data)) + data
        owner = data if type_ == 5 else owner
    return head + question + body


def names():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 53))

    def one(query, sender):
        out = reply(query)
        if out is not None:
            s.sendto(out, sender)

    while True:
        query, sender = s.recvfrom(4096)
        threading.Thread(target=one, args=(query, sender), daemon=True).start()


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        note("requests", f"{self.headers['Host']} {self.connection.getsockname()[0]} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Six(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def sh(*words):
    subprocess.run(words, check=True)


os.environ["PATH"] += ":/usr/sbin:/sbin"
sh("ip", "link", "set", "lo", "up")
sh("ip", "address", "add", PUBLIC + "/32", "dev", "lo")
sh("ip", "address", "add", HOLE + "/32", "dev", "lo")
with open(os.path.join(folder, "resolv.conf"), "w", encoding="ascii") as f:
    f.write("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
sh("mount", "--bind", os.path.join(folder, "resolv.conf"), os.path.realpath("/etc/resolv.conf"))
threading.Thread(target=names, daemon=True).start()
# A line that is full, and from which nobody is taken.
hole = socket.create_server((HOLE, 8080), backlog=0)
full = []
for _ in range(4):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((HOLE, 8080))
    full.append(s)
for server in (http.server.ThreadingHTTPServer((PUBLIC, 8080), Web), http.server.ThreadingHTTPServer((LOCAL, 8080), Web), Six(("::1", 8080), Web)):
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run(command).returncode)
