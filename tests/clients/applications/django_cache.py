"""Django's cache and sessions over django-redis, in databases 1 and 2: django_cache.py PORT

django-redis counts by script. A counter that eight threads increment a hundred times each is at 800 afterwards.
"""

import sys

import django
import redis
from django.conf import settings

from checks import expect, refused, side_by_side

port = int(sys.argv[1])
settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/1",
        },
        "django's own": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/2",
        },
    },
    SECRET_KEY="of no importance here",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402 Django has to be set up.
from django.core.cache import caches  # noqa: E402


def what_every_cache_does(cache):
    cache.set("page", {"lines": [1, 2]}, 60)
    expect(cache.get("page"), {"lines": [1, 2]})
    expect(cache.add("page", "another"), False)
    cache.set_many({"a": 1, "b": "two"}, 60)
    expect(cache.get_many(["a", "b", "c"]), {"a": 1, "b": "two"})
    expect(cache.touch("a", 100), True)
    cache.delete_many(["a", "b"])
    expect(cache.get("a", "none"), "none")

    cache.set("visits", 0)
    side_by_side(8, lambda: [cache.incr("visits") for _ in range(100)])
    expect(cache.get("visits"), 800)
    expect(cache.decr("visits", 5), 795)
    refused(ValueError, cache.incr, "nobody has set this")


def what_django_redis_adds(cache):
    cache.set("short", 1, timeout=50)
    expect(40 < cache.ttl("short") <= 50, True)
    expect(cache.persist("short"), True)
    expect(cache.ttl("short"), None)

    for i in range(300):
        cache.set(f"user:{i}", i)
    expect(len(list(cache.iter_keys("user:*"))), 300)
    expect(cache.delete_pattern("user:*"), 300)
    expect(cache.get("visits"), 795)

    with cache.lock("job", timeout=5):
        expect(cache.lock("job").acquire(blocking=False), False)
    expect(cache.lock("job", timeout=5).acquire(blocking=False), True)


def sessions():
    session = SessionStore()
    session["user"] = 7
    session.save()
    expect(SessionStore(session_key=session.session_key)["user"], 7)
    session.delete()
    expect(SessionStore(session_key=session.session_key).get("user"), None)


for name in ("default", "django's own"):
    what_every_cache_does(caches[name])
what_django_redis_adds(caches["default"])
sessions()

# Clearing one cache leaves the other alone, and nothing went to database 0.
caches["default"].clear()
expect(caches["django's own"].get("visits"), 795)
expect([redis.Redis(port=port, db=number).dbsize() for number in (0, 1)], [0, 0])
