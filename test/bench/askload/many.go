package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

// kindsOf are requests of different kinds, right and wrong ones: kept answers, encoded ones, lists,
// refusals, and paths that no one has asked for before, which nothing may remember.
func kindsOf(pool string, n int64) (request string, status int) {
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: api\r\n\r\n" }
	switch n % 8 {
	case 0:
		return get("/v1/pools"), http.StatusOK
	case 1:
		return get("/v1/pools/" + pool), http.StatusOK
	case 2:
		return get(fmt.Sprintf("/v1/pools/none-%d", n)), http.StatusNotFound
	case 3:
		return fmt.Sprintf("GET /v1/pools/%s/status HTTP/1.1\r\nHost: api\r\nX-Correlation-Id: c%d\r\n\r\n", pool, n),
			http.StatusOK
	}
	return get("/v1/pools/" + pool + "/health"), http.StatusOK
}

// many sends so many requests over so many connections, as fast as they are answered, and prints
// how many were answered.
func many(pool, connections, requests string) error {
	n, errN := strconv.Atoi(connections)
	all, errAll := strconv.ParseInt(requests, 10, 64)
	if err := errors.Join(errN, errAll); err != nil {
		return err
	}
	var next, answered atomic.Int64
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			conn, err := net.Dial("unix", guest.Socket)
			if err != nil {
				errs[i] = err
				return
			}
			defer conn.Close()
			read := bufio.NewReader(conn)
			for k := next.Add(1); k <= all; k = next.Add(1) {
				if errs[i] = one(conn, read, pool, k); errs[i] != nil {
					return
				}
				answered.Add(1)
			}
		})
	}
	running.Wait()
	fmt.Println(answered.Load())
	return errors.Join(errs...)
}

func one(conn net.Conn, read *bufio.Reader, pool string, n int64) error {
	request, want := kindsOf(pool, n)
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(read, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != want {
		return fmt.Errorf("%q: status %d, want %d", request, answer.StatusCode, want)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
