"""Locks that release and extend by script: locks.py PORT

redis-py's own Lock in RESP2 and RESP3, and sherlock in database 1. A lock is worth something if nobody else can release
it, if it ends by itself, and if a counter that is read and written under it loses nothing.
"""

import sys

import redis
import sherlock
from redis.exceptions import LockNotOwnedError

from checks import expect, refused, side_by_side

port = int(sys.argv[1])


def locks_of_redis_py(protocol):
    db = redis.Redis(port=port, protocol=protocol)
    lock = db.lock("door", timeout=5)
    expect(lock.acquire(), True)
    expect(db.lock("door").acquire(blocking=False), False)
    expect(lock.extend(10), True)
    expect(10 < db.ttl("door") <= 15, True)
    expect(lock.reacquire(), True)
    expect(0 < db.ttl("door") <= 5, True)

    other = db.lock("door", timeout=5)
    for action in (other.release, lambda: other.extend(60)):
        other.local.token = b"the token of another"
        refused(LockNotOwnedError, action)
    expect(db.ttl("door") <= 5, True)
    lock.release()
    expect(db.exists("door"), 0)

    # One that has ended by itself belongs to the next, and can no longer be released by the first.
    first, second = db.lock("door", timeout=0.1), db.lock("door", timeout=5, sleep=0.01)
    first.acquire()
    expect(second.acquire(blocking_timeout=5), True)
    refused(LockNotOwnedError, first.release)
    second.release()

    def count():
        mine = redis.Redis(port=port, protocol=protocol)
        for _ in range(10):
            with mine.lock("counter's", timeout=10, sleep=0.001):
                mine.set("counter", int(mine.get("counter") or 0) + 1)

    side_by_side(8, count)
    expect(db.get("counter"), b"80")
    db.flushall()


def locks_of_sherlock():
    sherlock.configure(expire=10, timeout=0.1, retry_interval=0.02)
    db = redis.Redis(port=port, db=1)
    lock, other = sherlock.RedisLock("door", client=db), sherlock.RedisLock("door", client=db)
    expect(lock.acquire(), True)
    expect(other.acquire(False), False)
    refused(sherlock.LockTimeoutException, other.acquire)
    refused(sherlock.LockException, other.release)
    expect(lock.locked(), True)
    lock.release()
    expect(db.dbsize(), 0)

    expect(sherlock.RedisLock("door", client=db, expire=1).acquire(), True)
    expect(sherlock.RedisLock("door", client=db, timeout=5).acquire(), True)


locks_of_redis_py(2)
locks_of_redis_py(3)
locks_of_sherlock()
