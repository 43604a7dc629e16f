// How to use the server from Go, with redigo: redigo PORT
//
// Redigo speaks RESP2. Every value that comes back is checked; the first that differs ends the
// program.
package main

import (
	"fmt"
	"log"
	"os"
	"reflect"

	"github.com/gomodule/redigo/redis"
)

func main() {
	log.SetFlags(log.Lshortfile)
	db, err := redis.Dial("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	// A simple reply is a string, a bulk reply is bytes, and a missing value is nil.
	expect(do(db, "PING"), "PONG")
	expect(do(db, "SET", "greeting", "hello\r\nworld", "EX", 60), "OK")
	expect(do(db, "GET", "greeting"), []byte("hello\r\nworld"))
	if seconds := do(db, "TTL", "greeting").(int64); seconds < 1 || seconds > 60 {
		log.Fatalf("a TTL of %d", seconds)
	}
	expect(do(db, "GET", "nobody"), nil)

	expect(do(db, "MSET", "a", 1, "b", 2), "OK")
	expect(do(db, "MGET", "a", "nobody", "b"), []interface{}{[]byte("1"), nil, []byte("2")})

	expect(do(db, "INCR", "visits"), int64(1))
	expect(do(db, "INCRBY", "visits", 41), int64(42))
	_, err = db.Do("INCR", "greeting")
	expect(fmt.Sprint(err), "ERR value is not an integer or out of range")

	// Send only queues: the transaction leaves in one piece, and EXEC returns all its replies.
	send(db, "MULTI")
	send(db, "SET", "c", 3)
	send(db, "GET", "c")
	send(db, "INCR", "visits")
	expect(do(db, "EXEC"), []interface{}{"OK", []byte("3"), int64(43)})

	// An empty Do sends what is queued and returns all its replies.
	for i := 0; i < 100; i++ {
		send(db, "SET", fmt.Sprintf("user:%d", i), i)
	}
	expect(len(do(db, "").([]interface{})), 100)

	users := scan(db, "user:*")
	expect(len(users), 100)
	expect(do(db, "DEL", "a", "b", "nobody"), int64(2))
	expect(do(db, "EXISTS", "a", "b", "c"), int64(1))
	expect(do(db, "DEL", redis.Args{}.AddFlat(users)...), int64(100))
}

// scan returns the keys that match, each once, though the server may return one twice.
func scan(db redis.Conn, pattern string) []string {
	found := map[string]bool{}
	for cursor := "0"; ; {
		page, err := redis.Values(db.Do("SCAN", cursor, "MATCH", pattern))
		if err != nil {
			log.Fatal(err)
		}
		var keys []string
		if _, err := redis.Scan(page, &cursor, &keys); err != nil {
			log.Fatal(err)
		}
		for _, key := range keys {
			found[key] = true
		}
		if cursor == "0" {
			break
		}
	}
	var keys []string
	for key := range found {
		keys = append(keys, key)
	}
	return keys
}

func do(db redis.Conn, command string, args ...interface{}) interface{} {
	reply, err := db.Do(command, args...)
	if err != nil {
		log.Fatalf("%s: %v", command, err)
	}
	return reply
}

func send(db redis.Conn, command string, args ...interface{}) {
	if err := db.Send(command, args...); err != nil {
		log.Fatalf("%s: %v", command, err)
	}
}

func expect(got, wanted interface{}) {
	if !reflect.DeepEqual(got, wanted) {
		log.Output(2, fmt.Sprintf("expected %#v, got %#v", wanted, got))
		os.Exit(1)
	}
}
