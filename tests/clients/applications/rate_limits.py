"""Rate limiters that count by script, in databases 0 and 1: rate_limits.py PORT

The package limits with those of its strategies that use strings, and Flask-Limiter on top of it. Each test
counts the requests that get through, also of those that come at the same time.
"""

import sys
import time

from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits import parse, storage, strategies

from checks import expect, side_by_side

url = f"redis://127.0.0.1:{sys.argv[1]}"


def a_limiter_lets_through_its_limit(store, strategy):
    limiter = strategy(store)
    five = parse("5 per minute")
    hits = [limiter.hit(five, strategy.__name__, "someone") for _ in range(7)]
    expect(hits, [True] * 5 + [False] * 2)
    expect(limiter.test(five, strategy.__name__, "someone"), False)
    expect(limiter.test(five, strategy.__name__, "another"), True)
    stats = limiter.get_window_stats(five, strategy.__name__, "someone")
    expect(stats.remaining, 0)
    expect(0 < stats.reset_time - time.time() <= 121, True)

    hundred, through = parse("100 per hour"), []
    side_by_side(8, lambda: through.extend(limiter.hit(hundred, strategy.__name__) for _ in range(40)))
    expect(through.count(True), 100)


def a_site_answers_429(database):
    app = Flask("site")
    limiter = Limiter(
        get_remote_address,
        app=app,
        storage_uri=f"{url}/{database}",
        key_prefix="site",
        headers_enabled=True,
        default_limits=["5 per minute"],
    )

    @app.route("/")
    def index():
        return "welcome"

    @app.route("/login")
    @limiter.limit("2 per minute")
    def login():
        return "wrong password"

    visitor = app.test_client()
    expect([visitor.get("/").status_code for _ in range(7)], [200] * 5 + [429] * 2)
    expect([visitor.get("/login").status_code for _ in range(4)], [200] * 2 + [429] * 2)
    expect(visitor.get("/").headers["X-RateLimit-Remaining"], "0")
    limiter.reset()
    expect(visitor.get("/").status_code, 200)


for number in (0, 1):
    store = storage.storage_from_string(f"{url}/{number}")
    expect(store.check(), True)
    a_limiter_lets_through_its_limit(store, strategies.FixedWindowRateLimiter)
    a_limiter_lets_through_its_limit(store, strategies.SlidingWindowCounterRateLimiter)
    a_site_answers_429(number)
