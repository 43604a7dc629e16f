// Locks of redlock and redis-semaphore, which release and extend by script: redlock.js PORT
//
// A lock is worth something if nobody else can release it, and if one at a time is inside.

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const Redis = require("ioredis");
const { Redlock } = require("@sesamecare-oss/redlock");
const { Mutex } = require("redis-semaphore");

const run = require("./run_to_end");

run(async (port) => {
  const db = new Redis(port);
  await redlocks(db);
  await mutexes(new Redis({ port, db: 1 }));
  assert.equal(await db.dbsize(), 0);
});

async function redlocks(db) {
  const locks = new Redlock([db], { retryCount: 2, retryDelay: 10 });
  let lock = await locks.acquire(["first", "second"], 5000);
  await assert.rejects(locks.acquire(["second"], 1000));
  lock = await lock.extend(20000);
  const left = await db.pttl("second");
  assert.ok(left > 15000 && left <= 20000, `${left} ms`);

  const value = await db.get("second");
  await db.set("second", "another's");
  await assert.rejects(lock.release());
  assert.equal(await db.get("second"), "another's");
  await db.set("second", value);
  await db.set("first", value);
  await lock.release();
  assert.equal(await db.exists("first", "second"), 0);

  const patient = new Redlock([db], { retryCount: 1000, retryDelay: 3, retryJitter: 3 });
  const most = await crowd(async (inside) => {
    const mine = await patient.acquire(["door"], 5000);
    await inside();
    await mine.release();
  });
  assert.equal(most, 1);
}

async function mutexes(db) {
  const first = new Mutex(db, "door", { lockTimeout: 300, refreshInterval: 50 });
  const second = new Mutex(db, "door", { acquireTimeout: 50 });
  await first.acquire();
  await sleep(450); // Longer than its time: it is extended meanwhile.
  assert.equal(first.isAcquired, true);
  assert.equal(await second.tryAcquire(), false);
  await first.release();
  assert.equal(await second.tryAcquire(), true);
  await second.release();

  const most = await crowd(async (inside) => {
    const mine = new Mutex(db, "door", { retryInterval: 3 });
    await mine.acquire();
    await inside();
    await mine.release();
  });
  assert.equal(most, 1);
  assert.equal(await db.dbsize(), 0);
}

// How many were inside at the same time, at most.
async function crowd(enter) {
  let now = 0;
  let most = 0;
  const inside = async () => {
    most = Math.max(most, ++now);
    await sleep(2);
    now--;
  };
  await Promise.all(Array.from({ length: 10 }, () => enter(inside)));
  return most;
}
