// Command clients checks connect-go and grpc-go against a server: `clients SERVER_URL ADMIN_URL`. It prints a line per client and case.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: clients SERVER_URL ADMIN_URL")
		os.Exit(2)
	}
	passed, failed := 0, 0
	for _, client := range append(connectClients(os.Args[1], os.Args[2]), grpcClient(os.Args[1], os.Args[2])) {
		for _, test := range cases {
			if test.applies != nil && !test.applies(client) {
				continue
			}
			started := time.Now()
			problem := attempt(client, test.check)
			place := client.name + ": " + test.name
			if problem == "" {
				passed++
				fmt.Printf("ok     go %s (%d ms)\n", place, time.Since(started).Milliseconds())
			} else {
				failed++
				fmt.Printf("FAILED go %s: %s\n", place, problem)
			}
		}
	}
	fmt.Printf("go: %d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

// failure ends a case.
type failure string

// attempt runs one case; it returns what is wrong.
func attempt(client *client, check func(*run)) (problem string) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case failure:
			problem = string(reason)
		default:
			panic(reason)
		}
	}()
	check(newRun(client))
	return ""
}

// want ends the case unless got is expected.
func want[T comparable](what string, got, expected T) {
	if got != expected {
		panic(failure(fmt.Sprintf("%s: got %v, want %v", what, got, expected)))
	}
}

// must ends the case if there is an error.
func must[T any](value T, err error) T {
	if err != nil {
		panic(failure("unexpected error: " + err.Error()))
	}
	return value
}
