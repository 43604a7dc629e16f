// Sessions of express-session with connect-redis over node-redis, in database 1: sessions.js PORT

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { promisify } = require("node:util");
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");

const run = require("./run_to_end");

run(async (port) => {
  const client = await createClient({ url: `redis://127.0.0.1:${port}/1` }).connect();
  const store = new RedisStore({ client, ttl: 60 });
  const site = express();
  site.use(session({ store, secret: "of no importance here", resave: false, saveUninitialized: false }));
  site.get("/leave", (request, response) => request.session.destroy(() => response.send("bye")));
  site.use((request, response) => {
    request.session.visits = (request.session.visits ?? 0) + 1;
    response.send(String(request.session.visits));
  });
  const listener = site.listen(0, "127.0.0.1");
  await once(listener, "listening");

  let cookie = "";
  const visit = async (path = "/") => {
    const response = await fetch(`http://127.0.0.1:${listener.address().port}${path}`, { headers: { cookie } });
    cookie = response.headers.get("set-cookie")?.split(";")[0] ?? cookie;
    return response.text();
  };
  for (const count of ["1", "2", "3"]) assert.equal(await visit(), count);

  const [id, ...others] = await promisify(store.ids.bind(store))();
  assert.deepEqual(others, []);
  const seconds = await client.ttl(`sess:${id}`);
  assert.ok(seconds > 50 && seconds <= 60, `a session of ${seconds} s`);
  assert.equal((await promisify(store.get.bind(store))(id)).visits, 3);

  assert.equal(await visit("/leave"), "bye");
  assert.equal(await visit(), "1");
  await promisify(store.clear.bind(store))();
  assert.equal(await client.dbSize(), 0);
  assert.equal(await visit(), "1");
});
