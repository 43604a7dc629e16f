#!/usr/bin/env bash
# How to use the server from a shell, with redis-cli and redis-benchmark: cli.sh PORT
# Over TLS if TLS_CA names the authority of the server's certificate.
#
# Expects an empty server. Every answer is checked; the first that differs ends the script.
set -euo pipefail
port=$1

tls=(${TLS_CA:+--tls --cacert "$TLS_CA"})
cli() { redis-cli -p "$port" "${tls[@]}" "$@"; }

expect() { # GOT WANTED
    [[ $1 == "$2" ]] || { printf 'expected %q, got %q\n' "$2" "$1" >&2; exit 1; }
}

expect_line() { # TEXT PATTERN: one of the lines matches
    grep -Eq -- "$2" <<<"$1" || { printf 'no line like %s in:\n%s\n' "$2" "$1" >&2; exit 1; }
}

# One command, one answer; -3 asks for RESP3.
for version in -2 -3; do
    expect "$(cli "$version" SET greeting 'hello world' EX 60)" OK
    expect "$(cli "$version" GET greeting)" 'hello world'
    expect "$(cli "$version" GET nobody)" ''
    expect "$(cli "$version" MSET a 1 b 2)" OK
    expect "$(cli "$version" MGET a nobody b)" $'1\n\n2'
    expect "$(cli "$version" INCR visits)" 1
    expect "$(cli "$version" DEL greeting a b visits)" 4
    expect_line "$(cli "$version" HELLO | tr '\n' ' ')" " proto ${version#-} "
done
expect "$(printf '%s\n' MULTI 'SET c 3' 'GET c' EXEC | cli)" $'OK\nQUEUED\nQUEUED\nOK\n3'
expect "$(cli DEL c)" 1

# Many writes at once, in RESP.
commands() {
    for i in {1..1000}; do
        key=user:$i
        printf '*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n' ${#key} "$key" ${#i} "$i"
    done
}
expect_line "$(commands | cli --pipe --pipe-timeout 10)" '^errors: 0, replies: 1000$'
expect "$(cli DBSIZE)" 1000
expect "$(cli GET user:1000)" 1000

# Looking at the keys.
expect "$(cli --scan --pattern 'user:*' | sort -u | wc -l)" 1000
big_keys=$(cli --bigkeys)
expect_line "$big_keys" '^Sampled 1000 keys in the keyspace!$'
expect_line "$big_keys" '^Biggest string found .* has 4 bytes$'

# --stat prints a line for each interval until it is ended; a status of 124 is timeout's own.
status=0
lines=$(timeout 1 stdbuf -oL redis-cli -p "$port" "${tls[@]}" --stat -i 0.1) || status=$?
expect "$status" 124
expect_line "$lines" '^1000 '

# One line for each test, under a title: PING twice (inline and RESP), SET, GET, INCR, MSET.
for version in '' -3; do
    results=$(redis-benchmark -p "$port" "${tls[@]}" $version -t ping,set,get,incr,mset -P 16 -n 2000 -c 10 --csv 2>&1)
    expect "$(grep -Ec '^"(PING_INLINE|PING_MBULK|SET|GET|INCR|MSET \(10 keys\))","[0-9.]+",' <<<"$results")" 6
    expect "$(wc -l <<<"$results")" 7
done
expect "$(cli GET counter:__rand_int__)" 4000
expect "$(cli FLUSHALL)" OK
expect "$(cli DBSIZE)" 0
