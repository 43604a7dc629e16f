// How to use the server from Node.js, with ioredis: node ioredis.js PORT
// Over TLS if TLS_CA names the authority of the server's certificate.
//
// Connects with the defaults of the installed version: RESP2 before ioredis 6, RESP3 since.
// Every value that comes back is checked; the first that differs ends the script.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const Redis = require("ioredis");

async function main() {
  const ca = process.env.TLS_CA && fs.readFileSync(process.env.TLS_CA);
  const db = new Redis(Number(process.argv[2]), "127.0.0.1", ca ? { tls: { ca } } : {});
  db.on("error", fail); // By default it would try again for ever.
  assert.equal(await db.ping(), "PONG");

  assert.equal(await db.set("greeting", "hello\r\nworld", "EX", 60), "OK");
  assert.equal(await db.get("greeting"), "hello\r\nworld");
  const seconds = await db.ttl("greeting");
  assert.ok(seconds > 0 && seconds <= 60, `a TTL of ${seconds}`);
  assert.equal(await db.get("nobody"), null);

  assert.equal(await db.mset({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await db.mget("a", "nobody", "b"), ["1", null, "2"]);

  assert.equal(await db.incr("visits"), 1);
  assert.equal(await db.incrby("visits", 41), 42);
  await assert.rejects(db.incr("greeting"), /^ReplyError: ERR value is not an integer/);

  // multi() is a transaction, pipeline() only saves round trips. Each reply is [error, value].
  const transaction = db.multi().set("c", "3").get("c").incr("visits").get("nobody");
  assert.deepEqual(await transaction.exec(), [[null, "OK"], [null, "3"], [null, 43], [null, null]]);
  const pipeline = db.pipeline();
  for (let i = 0; i < 100; i++) pipeline.set(`user:${i}`, i);
  assert.deepEqual(await pipeline.exec(), Array(100).fill([null, "OK"]));

  // A scan may return a key twice, so it is read into a set.
  const users = new Set();
  for await (const keys of db.scanStream({ match: "user:*" })) keys.forEach((key) => users.add(key));
  assert.deepEqual(users, new Set(Array.from({ length: 100 }, (_, i) => `user:${i}`)));

  assert.equal(await db.del("a", "b", "nobody"), 2);
  assert.equal(await db.exists("a", "b", "c"), 1);
  assert.equal(await db.del(...users), 100);
  assert.equal(await db.quit(), "OK");
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

main().catch(fail);
