// The way of a write: the last batches as they come, and one of them at a time in slow motion.

import { bytes, many, micros, number, put } from './figures.js';

const NAMES = ['wait', 'evaluate', 'frame', 'sync', 'apply', 'answer'];
const SHOWN = 10; // Rows of the list.
const PLAYED = 1800; // Milliseconds in which a batch is played,
const REST = 1400; // and for which its end is shown.
const DOTS = 48;
const ANSWERS = {
  synced: 'Each client gets its +OK, which means: it is on disk.',
  later: 'Each client gets its +OK, which here means: it is written, and soon on disk.',
  etcd: 'Each client gets its +OK, which means: a majority of disks has it.',
  none: 'Each client gets its +OK, which here means: it is in memory.',
};

const calm = matchMedia('(prefers-reduced-motion: reduce)');
const element = (id) => document.getElementById(id);
const total = (batch) => batch.steps.reduce((sum, time) => sum + (time ?? 0), 0);

let recent = [], shown = null, held = false, busyUntil = 0, frame = 0, log = 'synced';

export function describe(about) {
  log = about.log;
  put('way-try', `redis-cli${about.port ? ` -p ${about.port}` : ''} set hello world`);
  const words = {
    later: ['Write', 'One write hands the whole batch to the operating system. With this -fsync it is synced later: a power cut can take it back.'],
    etcd: ['Agree', 'The batch is one transaction of etcd: a majority of its members has synced it before it counts.'],
    none: ['Keep', 'There is no log: with -persist=false nothing is kept on disk.'],
  }[log];
  if (words) { put('sync-step', words[0]); put('sync-words', words[1]); }
  put('answer-words', ANSWERS[log]);
}

export function add(batch) {
  recent.unshift(batch);
  recent.length = Math.min(recent.length, SHOWN);
  element('way-empty').hidden = true;
  if (!held) { list(); if (performance.now() >= busyUntil) play(batch); }
}

// Says so if nothing has come for a while.
export function quiet(seconds, refused) {
  element('way-empty').hidden = seconds < 5;
  element('way-try').hidden = refused != null;
  put('way-why', refused ?? 'Nothing is written right now. Write something, and watch where it goes:');
  element('hold').hidden = recent.length === 0;
  element('stage').classList.toggle('none', recent.length === 0);
  element('recent-part').hidden = recent.length === 0;
}

element('hold').addEventListener('click', () => hold(!held));

function hold(on) {
  held = on;
  element('hold').setAttribute('aria-pressed', String(held));
  element('hold').textContent = held ? 'Go on' : 'Hold';
  if (!held) list();
}

function list() {
  const longest = Math.max(...recent.map(total));
  put('recent-scale', recent.length ? `on one scale: the longest took ${micros(longest)}` : '');
  element('recent').replaceChildren(...recent.map((batch) => row(batch, longest)));
}

function row(batch, longest) {
  const button = document.createElement('button');
  button.type = 'button';
  button.setAttribute('aria-current', String(batch === shown));
  const who = document.createElement('span');
  who.className = 'who';
  who.textContent = many(batch.clientCount, 'client');
  const more = document.createElement('span');
  more.className = 'ops';
  more.textContent = `, ${many(batch.operations, 'operation')}`;
  who.append(more, batch.ending === 'committed' ? '' : ', refused');
  const track = segments('track', batch, longest);
  const time = document.createElement('span');
  time.className = 'total';
  time.textContent = micros(total(batch));
  button.append(who, track, time);
  const parts = batch.steps.map((step, at) => (step == null ? '' : `${NAMES[at]} ${micros(step)}`)).filter(Boolean);
  button.title = parts.join(', ');
  button.addEventListener('click', () => { hold(true); play(batch); });
  const item = document.createElement('li');
  item.append(button);
  return item;
}

function segments(name, batch, longest) {
  const track = document.createElement('span');
  track.className = name;
  fill(track, batch, longest);
  return track;
}

function fill(track, batch, longest) {
  track.replaceChildren(...batch.steps.flatMap((time, step) => {
    if (!time) return [];
    const part = document.createElement('i');
    part.dataset.step = step;
    part.style.width = `${(time / longest) * 100}%`;
    return [part];
  }));
}

function play(batch) {
  shown = batch;
  busyUntil = performance.now() + PLAYED + REST;
  show(batch);
  if (!held) list();
  cancelAnimationFrame(frame);
  if (calm.matches) return reach(batch, 1);
  const began = performance.now();
  const turn = (now) => {
    const share = Math.min(1, (now - began) / PLAYED);
    reach(batch, share);
    if (share < 1) frame = requestAnimationFrame(turn);
  };
  reach(batch, 0);
  frame = requestAnimationFrame(turn);
}

// What does not move.
function show(batch) {
  const stage = element('stage');
  stage.classList.toggle('failed', batch.ending !== 'committed');
  put('answer-words', batch.ending !== 'committed' ? 'Each client is told why nothing was changed.' : ANSWERS[log]);
  put('crowd-count', many(batch.clientCount, 'client'));
  put('next-count', number(batch.meanwhile));
  dots('crowd', batch.clientCount, (at) => batch.clients[at] && `client ${batch.clients[at][0]}: ${many(batch.clients[at][1], 'operation')}, ${batch.clients[at][2] ?? 'no command'}`);
  dots('next', batch.meanwhile, () => 'waits for the next batch');
  fill(element('whole-bar'), batch, total(batch));
  document.querySelectorAll('#steps li').forEach((item, step) => {
    const time = batch.steps[step];
    item.querySelector('.time').textContent = time == null ? '–' : micros(time);
  });
  const slower = (PLAYED * 1000) / total(batch);
  const pace = calm.matches || slower < 1.5 ? '' : `, played ${number(slower)} times slower`;
  put('whole-pace', `${micros(total(batch))} from the first client's request to the last reply${pace}`);
  put('story', story(batch));
}

function dots(id, count, title) {
  const parts = Array.from({ length: Math.min(count, DOTS) }, (_, at) => {
    const dot = document.createElement('i');
    dot.title = title(at) ?? '';
    return dot;
  });
  if (count > DOTS) {
    const more = document.createElement('b');
    more.textContent = `+ ${count - DOTS}`;
    parts.push(more);
  }
  element(id).replaceChildren(...parts);
}

// Shows the batch as it was when this share of its time had passed.
function reach(batch, share) {
  let [left, phase] = [share * total(batch), 0];
  for (const [step, time] of batch.steps.entries()) {
    if (left < (time ?? 0)) break;
    left -= time ?? 0;
    phase = step + 1;
  }
  if (share >= 1) phase = NAMES.length;
  element('stage').dataset.phase = phase;
  document.querySelectorAll('#steps li').forEach((item, step) => item.classList.toggle('done', step <= phase && batch.steps[step] != null));
  element('whole-bar').style.setProperty('--played', `${share * 100}%`);
}

function story(batch) {
  const { clientCount, operations, records, steps, ending, meanwhile } = batch;
  if (ending === 'closed') return 'The log is closed for writing: nothing was changed, and each client was told so.';
  if (ending === 'no room') return 'There is no room on the disk: nothing was changed, each client was told so, and the log stays open.';
  if (ending === 'withheld') return 'Another server may lead: nothing is shown, and each client was told so.';
  if (records === 0) return `${many(operations, 'operation')} changed nothing, so the log was left alone.`;
  const disk = { synced: 'sync', later: 'write', etcd: 'agreement in etcd', none: '' }[log];
  const logged = `${many(records, 'record')}, ${bytes(batch.bytes)} of log.`;
  if (!disk || steps[3] == null) return logged;
  const share = Math.round((steps[3] / total(batch)) * 100);
  const waited = `The ${log === 'etcd' ? 'network and etcd' : 'disk'} took ${share} % of the time.`;
  if (operations === 1) {
    const alone = batch.leader === 'client' ? ' Nobody else was writing, so the client\'s own thread committed, which spares two wake-ups.' : '';
    return `One operation, one ${disk}: ${logged} ${waited}${alone}`;
  }
  const each = micros(steps[3] / operations);
  const next = meanwhile ? ` Meanwhile ${meanwhile === 1 ? 'one more client has come: it is in' : `${number(meanwhile)} more clients have come: they are`} the next batch.` : '';
  return `${many(operations, 'operation')} of ${many(clientCount, 'client')} shared one ${disk} of ${micros(steps[3])}: ${each} each. That is group commit. ${waited}${next}`;
}
