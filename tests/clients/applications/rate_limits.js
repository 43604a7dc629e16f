// Rate limiters that count by script, in database 1: rate_limits.js PORT
//
// express-rate-limit and express-slow-down with rate-limit-redis over node-redis, and rate-limiter-flexible and
// @fastify/rate-limit over ioredis. Each test counts the requests that get through.

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const express = require("express");
const fastify = require("fastify");
const Redis = require("ioredis");
const { rateLimit } = require("express-rate-limit");
const { slowDown } = require("express-slow-down");
const { RateLimiterRedis } = require("rate-limiter-flexible");
const { RedisStore } = require("rate-limit-redis");
const { createClient } = require("redis");

const run = require("./run_to_end");

run(async (port) => {
  const node = await createClient({ url: `redis://127.0.0.1:${port}/1` }).connect();
  await expressLimits((...words) => node.sendCommand(words));
  const io = new Redis({ port, db: 1 });
  await flexibleLimits(io);
  await fastifyLimits(io);
  await io.select(0);
  assert.equal(await io.dbsize(), 0);
});

async function expressLimits(sendCommand) {
  const site = express();
  const store = (prefix) => new RedisStore({ sendCommand, prefix });
  site.use("/limited", rateLimit({ windowMs: 500, limit: 3, store: store("limit:") }));
  site.use("/slow", slowDown({ windowMs: 60000, delayAfter: 1, delayMs: () => 200, store: store("slow:") }));
  site.use((_request, response) => response.send("welcome"));
  const listener = site.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const visit = (path) => fetch(`http://127.0.0.1:${listener.address().port}${path}`);

  const codes = [];
  for (let i = 0; i < 5; i++) codes.push((await visit("/limited")).status);
  assert.deepEqual(codes, [200, 200, 200, 429, 429]);
  await sleep(700);
  assert.equal((await visit("/limited")).status, 200);

  const times = [];
  for (let i = 0; i < 2; i++) {
    const start = Date.now();
    await visit("/slow");
    times.push(Date.now() - start);
  }
  assert.ok(times[0] < 190 && times[1] >= 190, `the answers took ${times} ms`);
  listener.close();
}

async function flexibleLimits(storeClient) {
  const limiter = new RateLimiterRedis({ storeClient, points: 5, duration: 60, keyPrefix: "flexible" });
  const tries = await Promise.allSettled(Array.from({ length: 20 }, () => limiter.consume("visitor")));
  assert.equal(tries.filter((one) => one.status === "fulfilled").length, 5);
  const refused = tries.find((one) => one.status === "rejected").reason;
  assert.ok(refused.msBeforeNext > 50000 && refused.msBeforeNext <= 60000, String(refused));
  await limiter.delete("visitor");
  assert.equal((await limiter.consume("visitor")).remainingPoints, 4);
  await limiter.block("visitor", 5);
  await assert.rejects(limiter.consume("visitor"), (error) => error.msBeforeNext > 4000);
}

async function fastifyLimits(redis) {
  const site = fastify();
  await site.register(require("@fastify/rate-limit"), { max: 3, timeWindow: 60000, redis });
  site.get("/", async () => "welcome");
  const codes = [];
  for (let i = 0; i < 5; i++) codes.push((await site.inject("/")).statusCode);
  assert.deepEqual(codes, [200, 200, 200, 429, 429]);
  await site.close();
}
