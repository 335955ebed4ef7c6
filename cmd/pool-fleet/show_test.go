package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/test/etcd"
)

// TestListen: the socket takes the place of one that was left behind, any user may connect to it,
// and a directory that is missing is an error with its name.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.sock")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
	l.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	_, err = listen(filepath.Join(dir, "none", "fleet.sock"))
	if err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("%v", err)
	}
}

// manager is an API with one pool, at a socket.
func manager(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/pools", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"pools":[{"id":"llama3","state":"ready","ready":true,"replicas":[]}],"problems":[]}`)
	})
	mux.HandleFunc("GET /v1/devices", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"devices":[]}`) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"models":[{"model":"hf:acme/llama3","bytes":7,"files":1,"digests":["sha256:0a"]}]}`)
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return path
}

// hostRoot is a file system that says who a host is.
func hostRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{"etc/machine-id": strings.Repeat("0a", 16),
		"proc/sys/kernel/random/boot_id": "b00t", "proc/sys/kernel/hostname": "gpu1"} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestShown: the whole program publishes the manager's pool in a real etcd, and shows it at its
// socket as a client of the manager's API reads it, also as a stream.
func TestShown(t *testing.T) {
	cluster := etcd.Start(t, etcd.Options{})
	cluster.Client()
	dir := t.TempDir()
	settings := filepath.Join(dir, "fleet.json")
	text, err := json.Marshal(map[string]any{"advertise_url": "https://gpu1:9200", "etcd": map[string]any{
		"endpoints": cluster.Endpoints(), "prefix": "/fleet", "ttl_ms": 5000}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(settings, text, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "fleet.sock")
	p, err := newProgram(options{settings: settings, socket: manager(t, dir), fleet: socket, root: hostRoot(t)},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.run(ctx, nil); close(ended) }()
	defer func() { cancel(); <-ended }()
	c, err := client.New(client.Options{Sockets: []string{socket}})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		list, err := c.GetFleetPools(t.Context(), client.GetFleetPoolsParams{})
		if err == nil && len(list.Value.Pools) == 1 && list.Value.Pools[0].Node == "gpu1" &&
			list.Value.Pools[0].Address == "https://gpu1:9200" && list.Value.Prefix == "/fleet" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, %v", list, err)
		}
	}
	models, err := c.GetFleetModels(t.Context(), client.GetFleetModelsParams{})
	if err != nil || len(models.Value.Models) != 1 || models.Value.Models[0].Address != "https://gpu1:9200" ||
		models.Value.Models[0].Model != "hf:acme/llama3" {
		t.Errorf("%+v, %v", models, err)
	}
	stream, err := c.GetFleetEvents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var kinds []string
	for range 3 {
		e, err := stream.Next()
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "host pool synced" {
		t.Errorf("the stream has %s", got)
	}
}
