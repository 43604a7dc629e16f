// socket.io in two processes that reach each other's clients by pub/sub: socketio.js PORT
//
// With @socket.io/redis-adapter over ioredis, the sharded one over node-redis, and the emitter from outside.

const assert = require("node:assert/strict");
const { fork } = require("node:child_process");
const { once } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const { Emitter } = require("@socket.io/redis-emitter");
const Redis = require("ioredis");
const { io } = require("socket.io-client");

const run = require("./run_to_end");

run(async (port) => {
  await twoProcesses(port, "plain");
  await twoProcesses(port, "sharded");
});

async function twoProcesses(port, adapter) {
  const servers = [1, 2].map(() => fork(`${__dirname}/socketio_server.js`, [port, adapter]));
  try {
    const ports = await Promise.all(servers.map(async (server) => (await heard(server, "message"))[0]));
    const clients = ports.map((each) => io(`http://127.0.0.1:${each}`, { transports: ["websocket"] }));
    for (const client of clients) {
      await heard(client, "connect");
      assert.equal(await client.timeout(5000).emitWithAck("join", "room"), "joined");
    }
    await bothListen(port, adapter);

    let all = Promise.all(clients.map((client) => heard(client, "said")));
    clients[0].emit("say", "room", { text: "hello" });
    assert.deepEqual(await all, [[{ text: "hello" }], [{ text: "hello" }]]);

    assert.equal(await clients[1].timeout(5000).emitWithAck("count"), 2);
    clients.forEach((client, i) => client.on("question", (answer) => answer(i)));
    assert.deepEqual((await clients[0].timeout(5000).emitWithAck("ask", "room")).sort(), [0, 1]);

    if (adapter === "plain") {
      all = Promise.all(clients.map((client) => heard(client, "said")));
      new Emitter(new Redis({ port, db: 1 })).to("room").emit("said", "from outside");
      assert.deepEqual(await all, [["from outside"], ["from outside"]]);
    }
    clients.forEach((client) => client.disconnect());
  } finally {
    servers.forEach((server) => server.kill());
  }
}

// A server accepts clients before it has subscribed, and what is published meanwhile is lost.
async function bothListen(port, adapter) {
  const db = new Redis(port);
  const question = { plain: ["NUMSUB", "socket.io-request#/#"], sharded: ["SHARDNUMSUB", "socket.io#/#room#"] }[adapter];
  const end = Date.now() + 10000;
  for (;;) {
    const [channel, listeners] = await db.pubsub(...question);
    if (listeners === 2) break;
    assert.ok(Date.now() < end, `${listeners} of 2 processes listen to ${channel}`);
    await sleep(5);
  }
  db.disconnect();
}

async function heard(emitter, event) {
  if (event === "connect" && emitter.connected) return [];
  return once(emitter, event, { signal: AbortSignal.timeout(10000) });
}
