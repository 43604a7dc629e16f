// One of the two processes of socketio.js: socketio_server.js PORT ADAPTER
//
// Tells its parent the port that it listens on.

const http = require("node:http").createServer();
const { createAdapter, createShardedAdapter } = require("@socket.io/redis-adapter");
const Redis = require("ioredis");
const { createClient } = require("redis");
const { Server } = require("socket.io");

async function main(port, adapter) {
  const io = new Server(http, {
    adapter: adapter === "plain" ? plainAdapter(port) : await shardedAdapter(port),
  });
  io.on("connection", (socket) => {
    socket.on("join", async (room, answer) => {
      await socket.join(room);
      answer("joined");
    });
    socket.on("say", (room, words) => io.to(room).emit("said", words));
    socket.on("count", async (answer) => answer((await io.fetchSockets()).length));
    socket.on("ask", async (room, answer) => answer(await io.timeout(5000).to(room).emitWithAck("question")));
  });
  http.listen(0, "127.0.0.1", () => process.send(http.address().port));
}

function plainAdapter(port) {
  const publisher = new Redis({ port, db: 1 });
  return createAdapter(publisher, publisher.duplicate());
}

async function shardedAdapter(port) {
  const publisher = await createClient({ url: `redis://127.0.0.1:${port}/1` }).connect();
  return createShardedAdapter(publisher, await publisher.duplicate().connect());
}

main(Number(process.argv[2]), process.argv[3]);
