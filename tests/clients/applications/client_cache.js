// Client-side caching with node-redis over RESP3: client_cache.js PORT
//
// A reader keeps what it has read, and the server tells it when that has changed.

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const { BasicClientSideCache, createClient } = require("redis");

const run = require("./run_to_end");

run(async (port) => {
  const url = `redis://127.0.0.1:${port}`;
  const clientSideCache = new BasicClientSideCache({ ttl: 0, maxEntries: 0 });
  const reader = await createClient({ url, RESP: 3, clientSideCache }).connect();
  const writer = await createClient({ url }).connect();

  await writer.set("key", "first");
  for (let i = 0; i < 10; i++) assert.equal(await reader.get("key"), "first");
  assert.equal(clientSideCache.stats().hitCount, 9);

  const changes = [
    [() => writer.set("key", "second"), "second"],
    [() => writer.del("key"), null],
    [() => writer.multi().set("key", "third").exec(), "third"],
    [() => writer.eval("return redis.call('APPEND', KEYS[1], '!')", { keys: ["key"] }), "third!"],
    [() => writer.pExpire("key", 30), null],
    [() => writer.set("key", "fourth"), "fourth"],
    [() => writer.flushAll(), null],
  ];
  for (const [change, wanted] of changes) {
    await reader.get("key");
    await change();
    const end = Date.now() + 10000;
    while ((await reader.get("key")) !== wanted) {
      assert.ok(Date.now() < end, `${change}: still ${await reader.get("key")}`);
      await sleep(5);
    }
  }
});
