"""Celery with the server as its result backend, in database 1: celery_results.py PORT

A result is a string with an expiry, and its arrival is announced by pub/sub. The tasks themselves go through memory,
since a broker needs lists.
"""

import sys

from celery import Celery, group
from celery.contrib.testing.worker import start_worker
from celery.result import GroupResult

from checks import expect, refused

app = Celery("sums", broker="memory://", backend=f"redis://127.0.0.1:{sys.argv[1]}/1")
app.conf.update(result_expires=60, broker_transport_options={"polling_interval": 0.01})


@app.task
def add(a, b):
    return a + b


@app.task
def square(n):
    return n * n


@app.task
def fail():
    raise ValueError("as it should")


with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False, loglevel="critical"):
    one = add.delay(2, 3)
    expect(one.get(timeout=20), 5)
    expect(one.state, "SUCCESS")

    failed = fail.delay()
    refused(ValueError, failed.get, timeout=20)
    expect(failed.state, "FAILURE")

    many = group(square.s(n) for n in range(20))()
    expect(many.get(timeout=20), [n * n for n in range(20)])
    many.save()
    expect(GroupResult.restore(many.id, app=app).get(timeout=20), [n * n for n in range(20)])
    expect((add.s(1, 2) | square.s())().get(timeout=20), 9)

    one.forget()
    expect(add.AsyncResult(one.id).state, "PENDING")
    keys = list(app.backend.client.scan_iter("celery-task-meta-*"))
    expect(all(0 < app.backend.client.ttl(key) <= 60 for key in keys) and len(keys) > 0, True)
