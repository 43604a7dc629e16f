// What the live page shows of a load, in a real browser: node page.js PROGRAM
//
// Starts a server of its own, because it closes that one's log in the end. With SCREENSHOTS=DIRECTORY in the environment
// it leaves pictures there. The browser is Debian's Chromium, driven by playwright-core.

const assert = require("node:assert/strict");
const { execFileSync, spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");

const PATIENCE = 20_000;
const OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
let server, browser;

async function main() {
  const { port, http } = await start(process.argv[2]);
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: OFFLINE });
  const page = await open(http, { width: 1240, height: 1180 }, "light");
  await shows(page, "#state", /^takes writes/);
  assert.ok(await page.isVisible("#way-empty"), "it says that nothing is written, and how to");
  await picture(page, "idle");

  await load(page, port);
  await batch(page, port);
  await narrow(http);
  await closed(page, port);

  assert.deepEqual(page.faults, [], "no error, and nothing from elsewhere");
}

// Twenty clients write and read; the page shows rates, percentiles, and batches that several of them share.
async function load(page, port) {
  let writing = true;
  const clients = Array.from({ length: 20 }, (_, at) => client(port, async (ask) => {
    while (writing) {
      assert.equal(await ask(`SET key:${at} value\n`), "+OK\n");
      assert.equal(await ask(`GET key:${at}\n`), "+OK value\n");
    }
  }));
  const number = (id) => page.textContent(id).then((text) => parseFloat(text.replace(",", "")));
  await page.waitForFunction(() => [...document.querySelectorAll("#recent .who")].some((who) => parseInt(who.textContent) > 1), null, { timeout: PATIENCE });
  await shows(page, "#writes-more", /^p50 .* p99 /);
  await shows(page, "#reads-more", /^p50 .* p99 /);
  await shows(page, "#share-more", /syncs a second$/);
  assert.ok((await number("#writes")) > 0 && (await number("#reads")) > 0, "rates");
  await shows(page, "#clients", /^20 of /);
  await shows(page, "#memory-more", /^20 keys/);
  await shows(page, "#story", /That is group commit\./);
  await picture(page, "load");
  writing = false;
  await Promise.all(clients);
}

// One client, three operations: so the page has to say.
async function batch(page, port) {
  await client(port, async (ask, socket) => {
    const row = page.locator("#recent button", { hasText: "1 client, 3 operations" }).first();
    // The kernel may hand over a pipeline in two parts.
    for (let tries = 0; tries < 20 && !(await row.count()); tries += 1) {
      socket.write("SET a 1\nSET b 2\nDEL a\n");
      await page.waitForTimeout(150);
    }
    await row.click();
  });
  assert.equal(await page.getAttribute("#hold", "aria-pressed"), "true", "a batch that was chosen stays");
  await shows(page, "#crowd-count", /^1 client$/);
  await shows(page, "#story", /^3 operations of 1 client shared one sync of /);
  await page.waitForFunction(() => document.querySelectorAll("#steps li.done").length === 6, null, { timeout: PATIENCE });
  await page.click("#hold");
  assert.equal(await page.getAttribute("#hold", "aria-pressed"), "false");
}

// A phone, and a dark room: nothing is wider than the screen, and text can be read.
async function narrow(http) {
  for (const scheme of ["light", "dark"]) {
    const page = await open(http, { width: 360, height: 760 }, scheme);
    await shows(page, "#state", /^takes writes/);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, "no sideways scrolling");
    for (const [text, behind] of [["--text", "--card"], ["--quiet", "--card"], ["--quiet", "--faint"], ["--bad", "--bad-card"], ["--warn", "--warn-card"], ["--reads", "--card"], ["--writes", "--card"]]) {
      const contrast = await page.evaluate(contrastOf, [text, behind]);
      assert.ok(contrast >= 4.5, `${scheme}: ${text} on ${behind} has a contrast of ${contrast}`);
    }
    if (scheme === "dark") await picture(page, "phone");
    assert.deepEqual(page.faults, []);
    await page.close();
  }
}

// As WCAG has it.
function contrastOf([text, behind]) {
  const light = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const [one, other] = [light(text), light(behind)];
  return Math.max(one, other) / Math.min(one, other);
}

// The kernel refuses the log's next write.
async function closed(page, port) {
  assert.ok(await page.isHidden("#alarm"));
  execFileSync("prlimit", ["--pid", String(server.pid), "--fsize=0:unlimited"]);
  await client(port, async (ask) => assert.match(await ask("SET a 1\n"), /File too large/));
  await page.waitForSelector("#alarm", { state: "visible", timeout: PATIENCE });
  await shows(page, "#alarm-title", /^The log is closed for writing$/);
  await shows(page, "#alarm-why", /File too large/);
  await shows(page, "#alarm-do", /restart the server/);
  await shows(page, "#state", /^closed for writing$/);
  await picture(page, "closed");
}

async function shows(page, selector, pattern) {
  const fits = ([selector, source]) => new RegExp(source).test(document.querySelector(selector).textContent);
  try {
    await page.waitForFunction(fits, [selector, pattern.source], { timeout: PATIENCE });
  } catch {
    assert.match(await page.textContent(selector), pattern);
  }
}

async function open(http, viewport, colorScheme) {
  const page = await browser.newPage({ viewport, colorScheme });
  page.faults = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.faults.push(message.text()));
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("request", (request) => new URL(request.url()).origin === http || page.faults.push(request.url()));
  await page.goto(http);
  return page;
}

async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true });
}

// Gives `work` a function that sends a line and waits for a line.
async function client(port, work) {
  const socket = net.connect(port, "127.0.0.1");
  let waiting = null, text = "";
  socket.setEncoding("utf8").setNoDelay(true);
  socket.on("data", (data) => {
    text += data;
    if (waiting && text.endsWith("\n")) { const line = text; text = ""; const resolve = waiting; waiting = null; resolve(line); }
  });
  await work((line) => new Promise((resolve) => { text = ""; waiting = resolve; socket.write(line); }), socket);
  socket.destroy();
}

function start(program) {
  server = spawn(program, ["-port", "0", "-http", "127.0.0.1:0", "-wal", path.join(directory, "wal_file")], { env: { ...process.env, RUST_LOG: "info" } });
  return new Promise((resolve, reject) => {
    let log = "";
    server.stderr.setEncoding("utf8").on("data", (text) => {
      log += text;
      const [, http] = log.match(/http on (\S+)/) ?? [], [, port] = log.match(/listening on 127\.0\.0\.1:(\d+)\n/) ?? [];
      if (http && port) resolve({ http: `http://${http}`, port: Number(port) });
    });
    server.on("exit", () => reject(new Error(`the server has ended: ${log}`)));
  });
}

main().then(() => 0, (error) => { console.error(error); return 1; }).then(async (code) => {
  await browser?.close();
  server?.removeAllListeners("exit");
  server?.kill();
  fs.rmSync(directory, { recursive: true, force: true });
  process.exit(code);
});
