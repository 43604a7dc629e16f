// What happened between two figures: rates, percentiles, and how people read them.

// Histograms come as [place, count]; place n counts values from 2^(n-1) up to 2^n.
export function between(now, before) {
  const counts = new Map(now);
  for (const [place, count] of before) counts.set(place, (counts.get(place) ?? 0) - count);
  return [...counts].filter(([, count]) => count > 0).sort(([a], [b]) => a - b);
}

// The value that this share of all values does not exceed, with even steps within a place.
export function quantile(counts, share) {
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return null;
  let seen = 0;
  for (const [place, count] of counts) {
    if (seen + count >= share * total) return 2 ** (place - 1 + (share * total - seen) / count);
    seen += count;
  }
  return 2 ** counts.at(-1)[0];
}

// 1234567 is 1.23 M: three digits are what a person reads while the number changes.
export function number(value) {
  if (value == null || !Number.isFinite(value)) return '–';
  const units = [[1e9, ' G'], [1e6, ' M'], [1e4, ' k']];
  for (const [size, unit] of units) if (value >= size) return three(value / (unit === ' k' ? 1e3 : size)) + unit;
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en') : three(value);
}

const three = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export function bytes(value) {
  if (value == null) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value : three(value)} ${units[unit]}`;
}

export function micros(value) {
  if (value == null) return '–';
  if (value < 1000) return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} µs`;
  if (value < 1e6) return `${three(value / 1e3)} ms`;
  return `${three(value / 1e6)} s`;
}

export function duration(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${seconds} s`;
}

export const many = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;

export function put(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}
