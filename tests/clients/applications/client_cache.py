"""Client-side caching with redis-py over RESP3: client_cache.py PORT

A reader keeps what it has read, and the server tells it when that has changed.
"""

import sys

import redis
from redis.cache import CacheConfig

from checks import eventually, expect

port = int(sys.argv[1])
reader = redis.Redis(port=port, protocol=3, decode_responses=True, cache_config=CacheConfig())
writer = redis.Redis(port=port, decode_responses=True)


def reads():
    return int(writer.info("commandstats")["cmdstat_get"]["calls"])


writer.set("key", "first")
expect(reader.get("key"), "first")
before = reads()
expect([reader.get("key") for _ in range(10)], ["first"] * 10)
expect(reads(), before)

changes = {
    "SET": (lambda: writer.set("key", "second"), "second"),
    "DEL": (lambda: writer.delete("key"), None),
    "a transaction": (lambda: writer.pipeline().set("key", "third").execute(), "third"),
    "a script": (lambda: writer.eval("return redis.call('APPEND', KEYS[1], '!')", 1, "key"), "third!"),
    "an expiry": (lambda: writer.pexpire("key", 30), None),
    "a value again": (lambda: writer.set("key", "fourth"), "fourth"),
    "FLUSHALL": (lambda: writer.flushall(), None),
}
for name, (change, wanted) in changes.items():
    reader.get("key")
    change()
    eventually(lambda: reader.get("key"), wanted)
