#!/usr/bin/env bash
# How to watch the server with Prometheus, through its exporter for Redis: exporter.sh PORT
#
# Fetches the metrics once, from an exporter on a free loopback port that ends with the script.
set -euo pipefail
port=$1

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

redis-cli -p "$port" SET greeting hello >/dev/null
web=127.0.0.1:$(free_port)
prometheus-redis-exporter -redis.addr "redis://127.0.0.1:$port" -web.listen-address "$web" >&2 &
exporter=$!
trap 'kill "$exporter" || true' EXIT

# It does not say when it listens, so it is asked until it answers.
until metrics=$(curl --silent --fail --noproxy '*' --max-time 10 "http://$web/metrics"); do
    kill -0 "$exporter" || { echo 'the exporter has ended' >&2; exit 1; }
    ((SECONDS < 20)) || { echo "the exporter does not answer at $web" >&2; exit 1; }
    sleep 0.05
done

for line in 'redis_up 1' 'redis_exporter_last_scrape_error{err=""} 0' 'redis_db_keys{db="db0"} 1'; do
    grep -Fxq -- "$line" <<<"$metrics" || { printf 'no line: %s\n%s\n' "$line" "$metrics" >&2; exit 1; }
done
