// Command fakeorchestrator imitates the registry of nodes of an orchestrator, for tests of
// machines. It forgets all when it ends, as an orchestrator that is restarted does.
//
//	fakeorchestrator -listen 127.0.0.1:8090 -token t0ken
//
// GET /nodes has what it knows: each node with its registration, its last heartbeat, and how many
// there were.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"sync"
	"time"
)

// node is what is known of one host.
type node struct {
	Registration  json.RawMessage `json:"registration"`
	Registrations int             `json:"registrations"`
	Heartbeat     json.RawMessage `json:"heartbeat"`
	Heartbeats    int             `json:"heartbeats"`
	AgeMS         int64           `json:"age_ms"` // since the last request of it
	seen          time.Time
}

type nodes struct {
	token string
	mu    sync.Mutex
	known map[string]*node
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8090", "address to listen at")
	token := flag.String("token", "", "token that nodes must send")
	flag.Parse()
	n := &nodes{token: *token, known: make(map[string]*node)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v2/nodes/register", n.admitted(n.register))
	mux.HandleFunc("POST /v2/nodes/{id}/heartbeat", n.admitted(n.heartbeat))
	mux.HandleFunc("DELETE /v2/nodes/{id}", n.admitted(n.leave))
	mux.HandleFunc("GET /nodes", n.list)
	log.Fatal(http.ListenAndServe(*listen, mux))
}

// admitted refuses requests without the token, as the real one does.
func (n *nodes) admitted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if n.token != "" && r.Header.Get("Authorization") != "Bearer "+n.token {
			http.Error(w, "missing or wrong token", http.StatusUnauthorized)
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		next(w, r)
	}
}

func (n *nodes) register(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	var fields struct {
		NodeID  string   `json:"node_id"`
		Address string   `json:"address"`
		Pools   []string `json:"pools"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || json.Unmarshal(body, &fields) != nil || fields.NodeID == "" ||
		fields.Address == "" || fields.Pools == nil {
		http.Error(w, "not a registration", http.StatusBadRequest)
		return
	}
	known := n.known[fields.NodeID]
	if known == nil {
		known = new(node)
		n.known[fields.NodeID] = known
	}
	known.Registration, known.seen = body, time.Now()
	known.Registrations++
}

func (n *nodes) heartbeat(w http.ResponseWriter, r *http.Request) {
	known := n.known[r.PathValue("id")]
	if known == nil {
		http.Error(w, "no such node", http.StatusNotFound)
		return
	}
	var body json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	known.Heartbeat, known.seen = body, time.Now()
	known.Heartbeats++
}

func (n *nodes) leave(w http.ResponseWriter, r *http.Request) {
	delete(n.known, r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func (n *nodes) list(w http.ResponseWriter, _ *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, known := range n.known {
		known.AgeMS = time.Since(known.seen).Milliseconds()
	}
	if err := json.NewEncoder(w).Encode(n.known); err != nil {
		log.Print(err)
	}
}
