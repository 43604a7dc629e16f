"""Pub/sub with redis-py, in RESP2 and RESP3: messages.py PORT"""

import sys

import redis

from checks import eventually, expect

port = int(sys.argv[1])


def receive(subscriber):
    message = subscriber.get_message(timeout=10)
    return message and (message["type"], message["channel"], message["data"])


def channels_and_patterns(protocol):
    db = redis.Redis(port=port, protocol=protocol)
    subscriber = db.pubsub()
    subscriber.subscribe("a", "b")
    subscriber.psubscribe("news.*")
    expect(receive(subscriber), ("subscribe", b"a", 1))
    expect(receive(subscriber), ("subscribe", b"b", 2))
    expect(receive(subscriber), ("psubscribe", b"news.*", 3))
    expect([db.publish(channel, "text") for channel in ("a", "news.today", "nobody")], [1, 1, 0])
    expect(receive(subscriber), ("message", b"a", b"text"))
    expect(receive(subscriber), ("pmessage", b"news.today", b"text"))
    subscriber.ping()
    expect(receive(subscriber)[0], "pong")
    expect(db.pubsub_numsub("a", "nobody"), [(b"a", 1), (b"nobody", 0)])

    # From a transaction and from a script, and what was written with it is there before it is heard.
    with db.pipeline() as transaction:
        transaction.set("value", "new").publish("b", "written")
        expect(transaction.execute(), [True, 1])
    expect(receive(subscriber), ("message", b"b", b"written"))
    script = "redis.call('SET', 'value', 'newer') return redis.call('PUBLISH', 'b', 'written again')"
    expect(db.eval(script, 0), 1)
    expect(receive(subscriber), ("message", b"b", b"written again"))
    expect(db.get("value"), b"newer")

    subscriber.unsubscribe("b")
    expect(receive(subscriber), ("unsubscribe", b"b", 2))
    expect(db.publish("b", "nobody hears this"), 0)
    subscriber.close()
    eventually(db.pubsub_channels, [])


def a_thousand_in_order(protocol):
    db, heard = redis.Redis(port=port, protocol=protocol), []
    subscriber = db.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(many=lambda message: heard.append(int(message["data"])))
    thread = subscriber.run_in_thread(sleep_time=0.01)
    eventually(lambda: db.pubsub_numsub("many"), [(b"many", 1)])
    for i in range(1000):
        db.publish("many", i)
    eventually(lambda: len(heard), 1000)
    expect(heard, list(range(1000)))
    thread.stop()
    thread.join()


def keyspace_events(protocol):
    db = redis.Redis(port=port, protocol=protocol)
    db.config_set("notify-keyspace-events", "KEA")
    subscriber = db.pubsub(ignore_subscribe_messages=True)
    subscriber.psubscribe("__keyevent@0__:*")
    eventually(db.pubsub_numpat, 1)
    db.set("short", "value", px=20)
    heard = []
    while not heard or heard[-1][1] != b"__keyevent@0__:expired":
        message = receive(subscriber)
        if message:
            heard.append(message)
    expect(heard, [("pmessage", b"__keyevent@0__:" + event, b"short") for event in (b"set", b"expire", b"expired")])
    db.config_set("notify-keyspace-events", "")
    subscriber.close()


for version in (2, 3):
    channels_and_patterns(version)
    a_thousand_in_order(version)
    keyspace_events(version)
