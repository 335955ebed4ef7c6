package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

const preloadPath = "http://socket/pools/new/preload"

// preloading is a server over the unix socket, and who carries out what it is asked.
func preloading(t *testing.T) (*host, *operators) {
	h, o := serve(t, Settings{}, units{}), &operators{}
	h.server.operator = o
	return h, o
}

// TestPreload: the request of existing orchestrators, as it comes.
func TestPreload(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want wire.Prepared
		in   time.Duration
	}{
		"whole": {`{"prepared":{"binary_path":"/opt/llama-server","flags":["--port","9000"],"host":"127.0.0.1","port":9000,
			"model_path":"/models/x.gguf","engine_version":"b6123","pool_id":"new","replica_id":"r0","device_mask":"GPU-a, GPU-b"}}`,
			wire.Prepared{BinaryPath: "/opt/llama-server", Flags: []string{"--port", "9000"}, Host: "127.0.0.1", Port: 9000,
				ModelPath: "/models/x.gguf", EngineVersion: "b6123", PoolID: "new", ReplicaID: "r0",
				DeviceMask: wire.DeviceMask{"GPU-a", "GPU-b"}}, 10 * time.Minute},
		"nulls": {`{"prepared":{"binary_path":"/b","flags":null,"host":null,"port":null,"model_path":null,"engine_version":null,
			"pool_id":null,"replica_id":null,"device_mask":null}}`, wire.Prepared{BinaryPath: "/b"}, 10 * time.Minute},
		"least":        {`{"prepared":{"binary_path":"/b"}}`, wire.Prepared{BinaryPath: "/b"}, 10 * time.Minute},
		"empty_mask":   {`{"prepared":{"binary_path":"/b","device_mask":""}}`, wire.Prepared{BinaryPath: "/b"}, 10 * time.Minute},
		"list_of_both": {`{"prepared":{"binary_path":"/b","device_mask":[0,"1"]}}`, wire.Prepared{BinaryPath: "/b", DeviceMask: wire.DeviceMask{"0", "1"}}, 10 * time.Minute},
		"deadline":     {`{"prepared":{"binary_path":"/b","engine":"vllm"},"deadline_ms":1500}`, wire.Prepared{BinaryPath: "/b", Engine: "vllm"}, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			h, o := preloading(t)
			r := h.send(http.MethodPost, preloadPath, c.body)
			if r.status != 200 || strings.TrimSpace(r.body) != `{"pool_id":"new","pid":7,"handoff_path":"/run/new.r0.json"}` {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if !reflect.DeepEqual(o.prepared, c.want) || !strings.HasPrefix(o.asked,
				fmt.Sprintf("preload new %s %v uid:", c.want.BinaryPath, c.in)) {
				t.Errorf("%+v, %s", o.prepared, o.asked)
			}
		})
	}
}

func TestPreloadThatIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ body, says string }{
		"nothing":            {``, "prepared, with binary_path"},
		"no_binary":          {`{"prepared":{}}`, "binary_path"},
		"unknown_field":      {`{"prepared":{"binary_path":"/b","binary":"/c"}}`, `unknown field`},
		"unknown_field_too":  {`{"prepare":{}}`, `unknown field`},
		"another_pool":       {`{"prepared":{"binary_path":"/b","pool_id":"other"}}`, "pool_id is"},
		"another_replica":    {`{"prepared":{"binary_path":"/b","replica_id":"r1"}}`, "one replica, r0"},
		"negative_port":      {`{"prepared":{"binary_path":"/b","port":-1}}`, "port is -1"},
		"port_in_quotes":     {`{"prepared":{"binary_path":"/b","port":"9000"}}`, "port is a string"},
		"flags_in_one":       {`{"prepared":{"binary_path":"/b","flags":"-ngl 99"}}`, "flags is a string"},
		"mask_is_a_number":   {`{"prepared":{"binary_path":"/b","device_mask":0}}`, "device_mask is neither"},
		"mask_has_an_object": {`{"prepared":{"binary_path":"/b","device_mask":[{}]}}`, "device_mask has an item"},
		"short_deadline":     {`{"prepared":{"binary_path":"/b"},"deadline_ms":10}`, "deadline_ms is 10"},
		"long_deadline":      {`{"prepared":{"binary_path":"/b"},"deadline_ms":86400001}`, "deadline_ms is 86400001"},
	} {
		t.Run(name, func(t *testing.T) {
			h, o := preloading(t)
			r := h.send(http.MethodPost, preloadPath, c.body)
			message, _ := r.json["message"].(string)
			if r.status != 400 || r.json["code"] != "INVALID_PARAMS" || !strings.Contains(message, c.says) ||
				o.asked != "" {
				t.Errorf("%d %s, asked %q; want %q", r.status, r.body, o.asked, c.says)
			}
		})
	}
}

// TestPreloadFails: the status shows whether the request, the host or the engine is at fault.
func TestPreloadFails(t *testing.T) {
	for code, want := range map[registry.Code]int{
		registry.CodePolicyDenied: 403, registry.CodePoolExists: 409, registry.CodePoolFromFile: 409, registry.CodePortInUse: 409,
		registry.CodePoolNotFound: 409, registry.CodeProvisionFailed: 422, registry.CodeModelNotFound: 422, registry.CodeEngineStartFailed: 502,
		registry.CodeEngineOOM: 502, registry.CodeInsufficientVRAM: 503, registry.CodeGPUUnavailable: 503, registry.CodeEngineStartTimeout: 504,
	} {
		t.Run(string(code), func(t *testing.T) {
			h, o := preloading(t)
			f := registry.Fail(code, "what", "do")
			f.Ending = &registry.Ending{Result: "exit-code", Lines: []string{"no such model"}}
			o.err = f
			r := h.send(http.MethodPost, preloadPath, `{"prepared":{"binary_path":"/b"}}`)
			if r.status != want || r.json["code"] != string(code) || r.json["hint"] != "do" ||
				r.json["retriable"] != (want == 503) || !strings.Contains(r.body, `"lines":["no such model"]`) {
				t.Errorf("%d %s, want %d", r.status, r.body, want)
			}
		})
	}
}

// TestPreloadWaits: a wait is longer than any other request may take, ends with its caller or with
// the server, and takes no place of a request.
func TestPreloadWaits(t *testing.T) {
	begin := func(t *testing.T, h *host, o *operators) (answer <-chan int, leave func()) {
		o.hangs = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		got := make(chan int, 1)
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, preloadPath, strings.NewReader(`{"prepared":{"binary_path":"/b"}}`))
			if err != nil {
				got <- -1
				return
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := h.overSocket().Do(req)
			if err != nil {
				got <- 0
				return
			}
			got <- resp.StatusCode
			_ = resp.Body.Close()
		}()
		<-o.hangs
		return got, cancel
	}
	t.Run("takes_the_place_of_a_stream", func(t *testing.T) {
		h, o := preloading(t)
		answer, leave := begin(t, h, o)
		h.waitStreams(1)
		if n := h.server.conns.size(); n != 0 {
			t.Errorf("%d places of requests", n)
		}
		leave()
		if status := <-answer; status != 0 {
			t.Errorf("answered %d", status)
		}
		h.waitStreams(0)
	})
	t.Run("ends_with_the_server", func(t *testing.T) {
		h, o := preloading(t)
		answer, _ := begin(t, h, o)
		h.stop()
		if status := <-answer; status != http.StatusServiceUnavailable {
			t.Errorf("answered %d", status)
		}
	})
}

func TestDeletePool(t *testing.T) {
	h, o := operated(t)
	h.reg.Put(registry.Pool{ID: "a", Source: registry.SourcePreload, State: registry.StateReady, Ready: true})
	s := serve(t, Settings{}, units{})
	s.server.operator, s.server.registry = o, h.reg
	r := s.send(http.MethodDelete, "http://socket/pools/a", "")
	if r.status != 202 || !strings.HasPrefix(o.asked, "unload a uid:") || r.json["source"] != "preload" {
		t.Errorf("%d %s, asked %q", r.status, r.body, o.asked)
	}
	o.err = registry.Fail(registry.CodePoolFromFile, "pool a is that of a pool file", "Remove its file.")
	s.send(http.MethodDelete, "http://socket/v1/pools/a", "").wantError(t, 409, "POOL_FROM_FILE")
	s.send(http.MethodDelete, "http://socket/v1/pools/none", "").wantError(t, 404, "POOL_NOT_FOUND")
}
