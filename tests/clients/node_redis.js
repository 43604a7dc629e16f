// How to use the server from Node.js, with node-redis: node node_redis.js PORT
// Over TLS if TLS_CA names the authority of the server's certificate.
//
// Connects with the defaults of the installed version: RESP2 before node-redis 6, RESP3 since.
// Every value that comes back is checked; the first that differs ends the script.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { createClient } = require("redis");

async function main() {
  const ca = process.env.TLS_CA && fs.readFileSync(process.env.TLS_CA);
  const url = `${ca ? "rediss" : "redis"}://127.0.0.1:${process.argv[2]}`;
  const db = createClient(ca ? { url, socket: { tls: true, ca } } : { url });
  db.on("error", fail); // By default it would try again for ever.
  await db.connect();
  assert.equal(await db.ping(), "PONG");

  assert.equal(await db.set("greeting", "hello\r\nworld", { EX: 60 }), "OK");
  assert.equal(await db.get("greeting"), "hello\r\nworld");
  const seconds = await db.ttl("greeting");
  assert.ok(seconds > 0 && seconds <= 60, `a TTL of ${seconds}`);
  assert.equal(await db.get("nobody"), null);

  assert.equal(await db.mSet({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await db.mGet(["a", "nobody", "b"]), ["1", null, "2"]);

  assert.equal(await db.incr("visits"), 1);
  assert.equal(await db.incrBy("visits", 41), 42);
  await assert.rejects(db.incr("greeting"), /ERR value is not an integer/);

  // multi() is a transaction; commands sent without waiting share a round trip by themselves.
  const transaction = db.multi().set("c", "3").get("c").incr("visits").get("nobody");
  assert.deepEqual(await transaction.exec(), ["OK", "3", 43, null]);
  const sets = Array.from({ length: 100 }, (_, i) => db.set(`user:${i}`, String(i)));
  assert.deepEqual(await Promise.all(sets), Array(100).fill("OK"));

  // Before version 5 the iterator gives one key at a time, since then a list. A scan may return
  // a key twice, so it is read into a set.
  const users = new Set();
  for await (const keys of db.scanIterator({ MATCH: "user:*" })) {
    [keys].flat().forEach((key) => users.add(key));
  }
  assert.deepEqual(users, new Set(Array.from({ length: 100 }, (_, i) => `user:${i}`)));

  assert.equal(await db.del(["a", "b", "nobody"]), 2);
  assert.equal(await db.exists(["a", "b", "c"]), 1);
  assert.equal(await db.del([...users]), 100);
  await (db.close ?? db.quit).call(db); // close() came with version 5.
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

main().catch(fail);
