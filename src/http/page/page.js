// Listens to the server's events, and shows what they say. Text is only ever set as text.

import { POINTS, heat, rates } from './charts.js';
import { between, bytes, duration, many, micros, number, put, quantile } from './figures.js';
import * as way from './way.js';

const WINDOW = 10; // Percentiles are of the last five seconds.
const element = (id) => document.getElementById(id);

let kept = [], history = [], about = {}, lastBatch = -Infinity;

function connect() {
  const events = new EventSource('/events');
  events.addEventListener('server', (event) => {
    const before = about;
    about = JSON.parse(event.data);
    if (before.pid !== about.pid) history = [];
    kept = [];
    const titles = { synced: ['A sync takes', 'Sync times'], later: ['A write takes', 'Times of writes to the log'], etcd: ['etcd takes', 'Times of agreement in etcd'], none: ['No log', 'Sync times'] }[about.log];
    put('sync-title', titles[0]);
    put('heat-title', titles[1]);
    way.describe(about);
  });
  events.addEventListener('figures', (event) => show(JSON.parse(event.data)));
  events.addEventListener('batch', (event) => { lastBatch = performance.now(); way.add(JSON.parse(event.data)); });
  events.onerror = () => {
    state('wait', 'connection lost, trying again');
    // The browser tries again by itself, unless it was refused.
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

function show(now) {
  const before = kept.at(-1);
  kept.push(now);
  if (kept.length > WINDOW + 1) kept.shift();
  status(now);
  levels(now);
  group(now.group);
  if (before && now.at > before.at) {
    const seconds = (now.at - before.at) / 1000;
    // CONFIG RESETSTAT begins to count anew.
    const rate = (name) => Math.max(0, now[name] - before[name]) / seconds;
    history.push({ reads: rate('reads'), writes: rate('writes'), syncs: between(now.syncMicros, before.syncMicros) });
    if (history.length > POINTS) history.shift();
    tiles(now, kept[0]);
  }
  draw();
  way.quiet((performance.now() - lastBatch) / 1000, refusal(now));
}

// Why a write would be in vain, if it would.
function refusal({ log, group }) {
  if (log?.status === 'err') return 'Every write is refused: the log is closed.';
  if (group && group.role !== 'leading') return `This server follows. Writes go to the one that leads${group.leader ? `, ${group.leader}` : ''}; look at its page.`;
  return null;
}

function tiles(now, from) {
  const last = history.slice(-3);
  const average = (name) => last.reduce((sum, point) => sum + point[name], 0) / last.length;
  put('reads', number(Math.round(average('reads'))));
  put('writes', number(Math.round(average('writes'))));
  const reads = between(now.readNanos, from.readNanos);
  const writes = between(now.writeNanos, from.writeNanos);
  put('reads-more', percentiles(reads) ?? 'no reads');
  put('writes-more', percentiles(writes) ?? 'no writes');
  const [batches, records] = [now.batches - from.batches, now.records - from.records];
  put('share', batches > 0 ? number(Math.round((records / batches) * 10) / 10) : '–');
  const rate = (now.syncs - from.syncs) / ((now.at - from.at) / 1000);
  put('share-more', batches > 0 ? `${number(Math.round(rate))} syncs a second` : 'nothing is written');
  const syncs = between(now.syncMicros, from.syncMicros);
  put('sync', micros(quantile(syncs, 0.5)));
  put('sync-more', syncs.length ? `median; p99 ${micros(quantile(syncs, 0.99))}` : 'no syncs');
}

const percentiles = (nanos) => (nanos.length ? `p50 ${micros(quantile(nanos, 0.5) / 1e3)}, p99 ${micros(quantile(nanos, 0.99) / 1e3)}` : null);

function state(is, text) {
  element('state').dataset.is = is;
  put('state-text', text);
}

function status({ log, notReady, uptime, group }) {
  // Not in the state, which is read aloud when it changes.
  put('about', `${about.version}${about.port ? `, port ${about.port}` : ''}, up ${duration(uptime)}`);
  const closed = log?.status === 'err', full = log?.status === 'full', short = log?.status === 'short';
  if (closed) state('bad', 'closed for writing');
  else if (full) state('bad', 'no room for writes');
  else if (notReady) state('warn', group?.role === 'following' ? 'follows, ready to take over' : notReady);
  else state('good', 'takes writes');
  const alarm = element('alarm');
  alarm.hidden = !(closed || full || short);
  alarm.dataset.is = short ? 'warn' : 'bad';
  if (closed) {
    put('alarm-title', 'The log is closed for writing');
    put('alarm-do', 'A write or sync of the log failed, so it is unknown what the disk has. Every write is refused, reads go on, and nothing that was acknowledged is lost. Look at the disk (dmesg, the file system, its space), then restart the server: it reads what the disk really has.');
  } else if (full) {
    put('alarm-title', 'There is no room for further writes');
    put('alarm-do', 'Writes that add data are refused; deletes and compactions go on. Free space on the disk of the log, or delete keys: writing resumes by itself.');
  } else if (short) {
    put('alarm-title', 'The next segment of the log cannot be prepared');
    put('alarm-do', 'Writes still go on. Free space on the disk of the log before the running segment is full.');
  }
  put('alarm-why', log?.why ?? '');
}

function bar(id, share) {
  const meter = element(`${id}-bar`);
  meter.hidden = share == null;
  if (share != null) {
    meter.value = Math.min(1, share);
    meter.classList.toggle('high', id !== 'log' && share > 0.9);
  }
}

function levels(now) {
  const { memory, memoryLimit, log } = now;
  put('memory', memoryLimit ? `${bytes(memory)} of ${bytes(memoryLimit)}` : bytes(memory));
  bar('memory', memoryLimit ? memory / memoryLimit : null);
  put('memory-more', `${many(now.keys, 'key')}${memoryLimit ? '' : ', no limit'}; ${bytes(now.resident)} resident`);
  if (log) {
    put('log', log.dueAt ? `${bytes(log.bytes)} of ${bytes(log.dueAt)}` : bytes(log.bytes));
    bar('log', log.dueAt ? log.bytes / log.dueAt : null);
    put('log-more', log.compacting ? 'a compaction is running' : `snapshot ${bytes(log.snapshot)}, ${many(log.compactions, 'compaction')}, record ${log.lsn.toLocaleString('en')}`);
  } else {
    put('log', 'none');
    bar('log', null);
    put('log-more', 'nothing is kept on disk');
  }
  put('clients', `${number(now.clients)} of ${number(now.clientLimit)}`);
  bar('clients', now.clients / now.clientLimit);
  put('clients-more', `${many(now.subscribers, 'subscriber')}, ${number(now.blocked)} paused, ${bytes(now.unread)} unread`);
  const from = kept[0];
  const cpu = now.at > from.at ? (now.cpu - from.cpu) / ((now.at - from.at) / 1000) : 0;
  put('process', `${cpu.toFixed(2)} processors`);
  bar('process', null);
  put('process-more', `${many(now.threads, 'thread')}; ${number(now.errors)} error replies`);
}

function group(group) {
  element('group').hidden = !group;
  if (!group) return;
  put('group-name', group.name);
  put('group-role', group.role);
  put('group-leader', group.leader ?? 'not known');
  put('group-term', String(group.term));
  put('group-lease', group.role === 'leading' ? `${(group.leaseLeft / 1000).toFixed(1)} of ${(group.lease / 1000).toFixed(1)} s` : 'not held');
  put('group-lag', many(group.lag, 'record'));
  put('group-machines', String(group.machines));
}

function draw() {
  rates(element('rates'), history);
  heat(element('heat'), history);
}

addEventListener('resize', draw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
connect();
