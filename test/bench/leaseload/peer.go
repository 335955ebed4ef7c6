package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// serveWord has the program be a peer.
const serveWord = "serve"

// The kinds of peers.
const (
	kindBbolt = "bbolt"
	kindNone  = "none"
)

// bodyLimit bounds a request's body, as the manager does.
const bodyLimit = 64 << 10

// startPeer starts a peer on the first processor, where the manager is, and waits until it serves.
func startPeer(kind, socket string) (pid int, stop func(), err error) {
	cmd := exec.Command("taskset", "-c", "0", os.Args[0], serveWord, kind, socket)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	stop = func() { _, _ = cmd.Process.Kill(), cmd.Wait() }
	for range 1000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			return cmd.Process.Pid, stop, conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return 0, nil, fmt.Errorf("the peer %s does not serve", kind)
}

// lease is what the peer stores and answers: the fields of the manager's.
type lease struct {
	ID       string `json:"lease_id"`
	Pool     string `json:"pool_id"`
	Replica  string `json:"replica_id"`
	Endpoint string `json:"endpoint"`
	Expires  int64  `json:"expires_at_ms"`
	Holder   string `json:"holder,omitempty"`
}

// peer is a server of leases that does nothing but answer and store.
type peer struct {
	store *store // nil: none

	mu   sync.Mutex
	held map[string]lease
}

func serve(args []string) error {
	p := &peer{held: make(map[string]lease)}
	if args[1] == kindBbolt {
		s, err := openStore(args[2] + ".db")
		if err != nil {
			return err
		}
		p.store = s
	}
	listener, err := net.Listen("unix", args[2])
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/pools/{id}/leases", p.acquire)
	mux.HandleFunc("DELETE /v1/pools/{id}/leases/{lease}", p.release)
	return http.Serve(listener, mux)
}

func (p *peer) acquire(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Holder string `json:"holder"`
		TTL    int64  `json:"ttl_ms"`
	}
	body := json.NewDecoder(io.LimitReader(r.Body, bodyLimit))
	if body.DisallowUnknownFields(); body.Decode(&ask) != nil {
		http.Error(w, "no request", http.StatusBadRequest)
		return
	}
	l := lease{ID: "l-" + rand.Text(), Pool: r.PathValue("id"), Replica: "r0", Endpoint: "http://127.0.0.1:21000",
		Expires: time.Now().UnixMilli() + ask.TTL, Holder: ask.Holder}
	p.mu.Lock()
	p.held[l.ID] = l
	p.mu.Unlock()
	if err := p.store.save(l.ID, &l); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(l) // a caller that has disconnected is not an error
}

func (p *peer) release(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("lease")
	p.mu.Lock()
	delete(p.held, id)
	p.mu.Unlock()
	if err := p.store.save(id, nil); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// store is a bbolt file with one transaction for all that wait at the same time.
type store struct {
	db   *bbolt.DB
	wake chan struct{}

	mu      sync.Mutex
	waiting []change
}

type change struct {
	id   string
	l    *lease // nil: released
	done chan error
}

func openStore(path string) (*store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, NoGrowSync: true})
	if err != nil {
		return nil, err
	}
	s := &store{db: db, wake: make(chan struct{}, 1)}
	go func() {
		for range s.wake {
			s.write()
		}
	}()
	return s, nil
}

// save returns when the change is in the file. A nil store keeps nothing.
func (s *store) save(id string, l *lease) error {
	if s == nil {
		return nil
	}
	c := change{id, l, make(chan error, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, c)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return <-c.done
}

func (s *store) write() {
	s.mu.Lock()
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("leases"))
		for _, c := range batch {
			if err != nil {
				break
			}
			if c.l == nil {
				err = b.Delete([]byte(c.id))
				continue
			}
			var text []byte
			if text, err = json.Marshal(c.l); err == nil {
				err = b.Put([]byte(c.id), text)
			}
		}
		return err
	})
	for _, c := range batch {
		c.done <- err
	}
}
