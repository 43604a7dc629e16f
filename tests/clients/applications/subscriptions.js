// Pub/sub over ioredis: graphql-redis-subscriptions, and a subscriber that comes back: subscriptions.js PORT

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const { RedisPubSub } = require("graphql-redis-subscriptions");
const Redis = require("ioredis");

const run = require("./run_to_end");

run(async (port) => {
  await graphql(port);
  await aConnectionIsCut(port);
});

async function graphql(port) {
  const [here, there] = [1, 2].map(
    () => new RedisPubSub({ publisher: new Redis(port), subscriber: new Redis(port) }),
  );
  const watcher = new Redis(port);

  const posts = there.asyncIterator("post");
  assert.deepEqual(await next(posts, () => here.publish("post", { id: 1 })), { id: 1 });

  const anything = there.asyncIterator("comment.*", { pattern: true });
  assert.deepEqual(await next(anything, () => here.publish("comment.new", { id: 2 })), { id: 2 });

  await posts.return();
  await anything.return();
  await until(async () => (await watcher.pubsub("CHANNELS")).length === 0 && (await watcher.pubsub("NUMPAT")) === 0);
}

// The library drops what arrives before it has noted that it is subscribed, so this is published until it is heard.
async function next(iterator, publish) {
  let message;
  iterator.next().then(({ value }) => (message = value));
  await until(async () => {
    await publish();
    return message !== undefined;
  });
  return message;
}

// ioredis connects and subscribes again by itself; the server no longer counts the old connection.
async function aConnectionIsCut(port) {
  const [publisher, subscriber] = [new Redis(port), new Redis(port)];
  const heard = [];
  subscriber.on("message", (_channel, message) => heard.push(message));
  await subscriber.subscribe("news");
  const id = /^id=(\d+) .* sub=1 /m.exec(await publisher.client("LIST", "TYPE", "pubsub"))[1];
  assert.equal(await publisher.client("KILL", "ID", id), 1);
  await until(async () => (await publisher.publish("news", "again")) === 1);
  await until(async () => heard.includes("again"));

  const before = heard.length;
  const pipeline = publisher.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.publish("news", i);
  await pipeline.exec();
  await until(async () => heard.length === before + 1000);
  assert.deepEqual(heard.slice(before), Array.from({ length: 1000 }, (_, i) => String(i)));
}

async function until(isSo) {
  const end = Date.now() + 10000;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `still not so: ${isSo}`);
    await sleep(5);
  }
}
