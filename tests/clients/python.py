"""How to use the server from Python, with redis-py: python.py PORT

Connects with the defaults of the installed version: RESP2 before redis-py 8, RESP3 since.
Over TLS if TLS_CA names the authority of the server's certificate.
Every value that comes back is checked; the first that differs ends the script.
"""

import os
import sys

import redis


def expect(got, wanted):
    if got != wanted:
        sys.exit(f"expected {wanted!r}, got {got!r}")


ca = os.environ.get("TLS_CA")
tls = {"ssl": True, "ssl_ca_certs": ca} if ca else {}
db = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), **tls)
expect(db.ping(), True)

# Keys and values are bytes; a str is sent as UTF-8.
expect(db.set("greeting", "hello\r\nworld", ex=60), True)
expect(db.get("greeting"), b"hello\r\nworld")
expect(0 < db.ttl("greeting") <= 60, True)
expect(db.get("nobody"), None)

expect(db.mset({"a": "1", "b": "2"}), True)
expect(db.mget("a", "nobody", "b"), [b"1", None, b"2"])

expect(db.incr("visits"), 1)
expect(db.incr("visits", 41), 42)
try:
    db.incr("greeting")
    sys.exit("INCR of a text was not refused")
except redis.ResponseError as error:
    expect(str(error), "value is not an integer or out of range")

# A pipeline is a transaction unless told otherwise: all of it, and nothing in between.
with db.pipeline() as pipe:
    pipe.set("c", "3").get("c").incr("visits").get("nobody")
    expect(pipe.execute(), [True, b"3", 43, None])
with db.pipeline(transaction=False) as pipe:
    for i in range(100):
        pipe.set(f"user:{i}", i)
    expect(pipe.execute(), [True] * 100)

# A scan may return a key twice, so it is read into a set.
users = set(db.scan_iter(match="user:*"))
expect(users, {b"user:%d" % i for i in range(100)})

expect(db.delete("a", "b", "nobody"), 2)
expect(db.exists("a", "b", "c"), 1)
expect(db.delete(*users), 100)
db.close()
