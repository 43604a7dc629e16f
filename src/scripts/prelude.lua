-- The world of a script, made once. `raw` has what Rust gives; everything that a script can reach is made here.
--
-- A script sees shared tables by their faces: empty tables that read what is behind them and refuse a change. No
-- function that a script gets hands out what is behind a face, or writes into one without asking. Functions that
-- catch errors make plain values of those of Rust, and do not catch the end of a script that has to end.

local raw = ...
local error, pcall, xpcall, type, tostring, tonumber = error, pcall, xpcall, type, tostring, tonumber
local next, rawget, rawset, getmetatable, setmetatable = next, rawget, rawset, getmetatable, setmetatable
local resume = coroutine.resume
local select, unpack = select, unpack
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
local sub = string.sub
local fail, plain, tick = raw.fail, raw.plain, raw.tick

-- By its face, the table behind it; by a metatable, what a script is shown instead.
local behind, shown = {}, {}

local function refuse()
  fail("Attempt to modify a readonly table")
end

local function face(real)
  local made, meta = {}, { __index = real, __newindex = refuse }
  behind[made], shown[meta] = real, false
  return setmetatable(made, meta)
end

-- What was caught, as a script may see it.

local function caught(ok, ...)
  if ok then
    return true, ...
  end
  local err = plain((...))
  if type(err) == "table" and type(err.err) == "string" then
    err = err.err
  end
  return false, err
end

local function resumed(ok, ...)
  if ok then
    return true, ...
  end
  return false, plain((...))
end

local base = {
  assert = assert,
  error = error,
  ipairs = ipairs,
  rawequal = rawequal,
  select = select,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = unpack,
  _VERSION = _VERSION,
}

function base.pcall(...)
  return caught(pcall(...))
end

function base.xpcall(f, handler)
  return resumed(xpcall(f, function(err)
    return handler(plain(err))
  end))
end

function base.getmetatable(value)
  local meta = getmetatable(value)
  if meta ~= nil and shown[meta] ~= nil then
    return shown[meta] or nil
  end
  return meta
end

function base.setmetatable(t, meta)
  if behind[t] then
    refuse()
  end
  return setmetatable(t, meta)
end

function base.rawset(t, key, value)
  if behind[t] then
    refuse()
  end
  return rawset(t, key, value)
end

function base.rawget(t, key)
  return rawget(behind[t] or t, key)
end

local function next_of(t, key)
  return next(behind[t] or t, key)
end

base.next = next_of

function base.pairs(t)
  if behind[t] then
    return next_of, t, nil
  end
  if type(t) ~= "table" then
    fail("bad argument #1 to 'pairs' (table expected, got " .. (t == nil and "nil" or type(t)) .. ")")
  end
  return next, t, nil
end

function base.collectgarbage(what)
  if what == nil or what == "collect" or what == "step" then
    return 0
  elseif what == "count" then
    return raw.memory()
  end
  fail("bad argument #1 to 'collectgarbage' (invalid option '" .. tostring(what) .. "')")
end

function base.gcinfo()
  return raw.memory()
end

function base.loadstring(text, name)
  return raw.compile(text, name or text)
end

function base.load(read, name)
  if type(read) ~= "function" then
    fail("bad argument #1 to 'load' (function expected, got " .. type(read) .. ")")
  end
  local pieces = {}
  while true do
    local piece = read()
    if piece == nil or piece == "" then
      break
    elseif type(piece) ~= "string" then
      return nil, "reader function must return a string"
    end
    pieces[#pieces + 1] = piece
  end
  return raw.compile(concat(pieces), name or "=(load)")
end

-- Lua counts the instructions of each coroutine on its own, so each part of one that runs counts as a long step.
local wrap = coroutine.wrap

base.coroutine = {
  create = coroutine.create,
  running = coroutine.running,
  status = coroutine.status,
  yield = coroutine.yield,
  resume = function(...)
    tick()
    return resumed(resume(...))
  end,
  wrap = function(f)
    local inner = wrap(f)
    return function(...)
      tick()
      return inner(...)
    end
  end,
}

-- Functions of Lua's own are given as they are, so that their errors name their place in the script. Those that write
-- into a table would write into a face, too: they are called only with what they take.
base.string = {
  byte = string.byte,
  char = string.char,
  dump = string.dump,
  find = raw.find,
  format = string.format,
  len = string.len,
  lower = string.lower,
  match = raw.match,
  rep = raw.rep,
  reverse = string.reverse,
  sub = string.sub,
  upper = string.upper,
}

base.table = {
  concat = table.concat,
  getn = table.getn,
  maxn = table.maxn,
}

-- A place is checked as the number that C makes of it: it has 32 bits there.
local LAST_PLACE = 2 ^ 31 - 1

local function wrong(place, name, wanted, value)
  fail("bad argument #" .. place .. " to '" .. name .. "' (" .. wanted .. " expected, got " .. type(value) .. ")")
end

local function writable(t, name)
  if behind[t] then
    refuse()
  elseif type(t) ~= "table" then
    wrong(1, name, "table", t)
  end
end

-- Lua's own `foreach` counts no instructions. With itself as the function, and tables as keys of each other, it went on
-- without end, and nobody could end it.

local function walkable(t, name, f)
  if type(t) ~= "table" then
    wrong(1, name, "table", t)
  elseif type(f) ~= "function" then
    wrong(2, name, "function", f)
  end
end

function base.table.foreach(t, f)
  walkable(t, "foreach", f)
  for key, value in next, t do
    local found = f(key, value)
    if found ~= nil then
      return found
    end
  end
end

function base.table.foreachi(t, f)
  walkable(t, "foreachi", f)
  for place = 1, #t do
    local found = f(place, rawget(t, place))
    if found ~= nil then
      return found
    end
  end
end

function base.table.insert(t, ...)
  writable(t, "insert")
  local count = select("#", ...)
  if count == 2 then
    local at = tonumber((...))
    if not at then
      wrong(2, "insert", "number", (...))
    elseif not (at >= 0 and at <= LAST_PLACE) then
      fail("bad argument #2 to 'insert' (position out of bounds)")
    end
  elseif count ~= 1 then
    fail("wrong number of arguments to 'insert'")
  end
  insert(t, ...)
end

function base.table.remove(t, at)
  writable(t, "remove")
  if at == nil then
    return remove(t)
  elseif not tonumber(at) then
    wrong(2, "remove", "number", at)
  end
  return remove(t, at)
end

-- Only within a function of Lua it is asked whether the script may go on.
local function less(a, b)
  return a < b
end

function base.table.sort(t, is_less)
  writable(t, "sort")
  if is_less ~= nil and type(is_less) ~= "function" then
    wrong(2, "sort", "function", is_less)
  end
  sort(t, is_less or less)
end

local function replacement(found, whole)
  if not found then
    return whole
  elseif type(found) == "string" or type(found) == "number" then
    return found
  end
  fail("invalid replacement value (a " .. type(found) .. ")")
end

-- `raw.scan` answers the first match from a place on: its first byte, the byte after it, and its captures, or the
-- whole match if there are none.

function base.string.gsub(text, pattern, by, most)
  local kind = type(by)
  if kind == "string" or kind == "number" then
    return raw.gsub(text, pattern, by, most)
  end
  local choose = by
  if kind == "table" then
    choose = function(key)
      return by[key]
    end
  elseif kind ~= "function" then
    fail("bad argument #3 to 'gsub' (string/function/table expected)")
  end
  text, pattern = raw.text(text, 1, "gsub"), raw.text(pattern, 2, "gsub")
  local pieces, count, at, copied = {}, 0, 1, 1
  local is_anchored = sub(pattern, 1, 1) == "^"
  most = tonumber(most) or #text + 1
  local function step(from, to, ...)
    if not from then
      return nil
    end
    pieces[#pieces + 1] = sub(text, copied, from - 1)
    pieces[#pieces + 1] = replacement(choose(...), sub(text, from, to - 1))
    return from, to
  end
  while count < most do
    local from, to = step(raw.scan(text, pattern, at, true))
    if not from then
      break
    end
    count, copied = count + 1, to
    if to > from then
      at = to
    else
      at = from + 1
    end
    if is_anchored or at > #text + 1 then
      break
    end
  end
  pieces[#pieces + 1] = sub(text, copied)
  return concat(pieces), count
end

function base.string.gmatch(text, pattern)
  text, pattern = raw.text(text, 1, "gmatch"), raw.text(pattern, 2, "gmatch")
  local at = 1
  local function step(from, to, ...)
    if not from then
      at = #text + 2
      return nil
    end
    at = to > from and to or to + 1
    return ...
  end
  return function()
    if at > #text + 1 then
      return nil
    end
    return step(raw.scan(text, pattern, at, false))
  end
end

base.string.gfind = base.string.gmatch

base.math = {}
for name, value in next, math do
  base.math[name] = value
end
base.math.random, base.math.randomseed = raw.random, raw.randomseed

base.redis = raw.redis
base.bit, base.cjson, base.cmsgpack, base.struct = raw.bit, raw.cjson, raw.cmsgpack, raw.struct

-- From here on everything shared has its face.

for name, value in next, base do
  if type(value) == "table" then
    base[name] = face(value)
  end
end
base.server = base.redis

local of_strings = getmetatable("")
of_strings.__index = base.string
shown[of_strings] = face({ __index = base.string })

local environment = face(base)
shown[getmetatable(environment)] = face({})
base._G = environment
setmetatable(base, {
  __index = function(_, name)
    if type(name) ~= "string" and type(name) ~= "number" then
      fail("Second argument to luaProtectedTableError must be a string or number")
    end
    fail("Script attempted to access nonexistent global variable '" .. name .. "'")
  end,
})

local described = raw.described

-- Runs a script with its keys and arguments; they are in their tables already if there is no number of keys. The last
-- word is always nil.
local function run(script, keys, ...)
  if keys == 1 then
    base.KEYS, base.ARGV = { (...) }, { select(2, ...) }
  elseif keys then
    base.KEYS, base.ARGV = { unpack({ ... }, 1, keys) }, { select(keys + 1, ...) }
  end
  return xpcall(script, described)
end

return environment, base, run
